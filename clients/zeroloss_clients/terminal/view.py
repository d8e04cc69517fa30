"""The live view: maps of what was found, elements and labels, progress, ledger, origin."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.layout import Layout
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from zeroloss.wire import LedgerTotals, layer_key

from .._live_run import DETECTED_SHARE, LiveRun, MapView
from ..subscriber import LiveMaps
from . import ramp
from .picture import fitted, picture

MAX_MAPS = 12
MIN_SCALARS = 4
"""Maps of scalar outputs that are drawn however many labels were found."""
FIRST_GUESSES = 3
LIST_WIDTH = 25
SUMMARY_EVERY_S = 0.4
DIM = "grey58"
HOLES = (
    ("unseen", ramp.UNSEEN),
    ("pending", ramp.PENDING),
    ("lost", ramp.LOST),
    ("no value", ramp.MASKED),
)


class MapsView:
    """Draws the newest run of `maps` at whatever size the terminal has.

    `title` stands at the top; `note` (if set) in the last line.
    """

    def __init__(self, maps: LiveMaps, title: str = "zeroloss") -> None:
        self._maps = maps
        self.title = title
        self.note = ""
        self._summary: dict[str, tuple[float, float]] = {}
        self._shares: dict[str, dict[str, float]] = {}
        self._summed: LiveRun | None = None
        self._due = 0.0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        run = self._maps.run
        layout = Layout()
        head = Layout(self._head(run), size=1)
        if run is None:
            layout.split_column(head, Layout(Padding(self._waiting(), (1, 2))))
        else:
            summary = self._summary_of(run)
            shown = choose_maps(run, summary)
            middle = Layout()
            middle.split_row(
                Layout(MapGrid(run, shown)),
                Layout(self._lists(run, summary), size=LIST_WIDTH),
            )
            foot = Layout(self._foot(run), size=5 if self.note else 4)
            layout.split_column(head, middle, foot)
        yield from console.render(layout, options)

    def _waiting(self) -> Text:
        if self._maps.connected:
            return Text("the daemon is there; waiting for a run", style=DIM)
        return Text("waiting for the daemon", style=DIM)

    def _head(self, run: LiveRun | None) -> Text:
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f" {self.title} ", "bold reverse")
        if not self._maps.connected:
            text.append("  daemon silent ", "bold red")
        elif run is not None:
            text.append(f"  {_state(run)} ", "bold green")
        if run is not None:
            text.append(f" {run.start.title or 'untitled'}")
            text.append(f"  {run.shape[0]} × {run.shape[1]}, run {run.run[:4].hex()}", DIM)
        return text

    def _foot(self, run: LiveRun) -> Group:
        ledger = run.ledger
        total = run.start.expected or ledger.announced
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(ratio=1)
        bar.add_column(justify="right", no_wrap=True)
        words = f"{ledger.processed}/{total} mapped   {run.rate_hz:.0f}/s   lag {_age(run.lag_s)}"
        bar.add_row(ProgressBar(total=max(1, total), completed=ledger.processed), words)
        lines: list[Table | Text] = [bar, ledger_line(ledger), origin_line(run), legend()]
        if self.note:
            lines.append(Text(self.note, no_wrap=True, overflow="ellipsis"))
        return Group(*lines)

    def _lists(self, run: LiveRun, summary: dict[str, tuple[float, float]]) -> Group:
        tables = [element_table(run, summary)] if run.elements else []
        return Group(*tables, *(share_table(key, self._shares[key]) for key in self._shares))

    def _summary_of(self, run: LiveRun) -> dict[str, tuple[float, float]]:
        now = time.monotonic()
        if run is not self._summed or now >= self._due:
            self._summary = run.summary()
            self._shares = label_shares(run)
            self._summed = run
            self._due = now + max(SUMMARY_EVERY_S, 5 * (time.monotonic() - now))
        return self._summary


class MapGrid:
    """Maps side by side, as large as they fit."""

    def __init__(self, run: LiveRun, labels: list[str]) -> None:
        self._run = run
        self._labels = labels

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        height = options.height or max(8, options.max_height - 6)
        if not self._labels:
            yield Text("no pixel is mapped yet", style=DIM)
            return
        columns, count = arrange(self._run.shape, len(self._labels), width, height)
        cell_width, cell_height = width // columns, height // math.ceil(count / columns)
        colour = console.color_system is not None
        for first in range(0, count, columns):
            cells = [
                self._cell(label, cell_width, cell_height, colour)
                for label in self._labels[first : min(count, first + columns)]
            ]
            for line in zip(*cells, strict=True):
                for text in line:
                    yield from text.render(console)
                    yield Segment(" " * max(0, cell_width - text.cell_len))
                yield Segment.line()

    def _cell(self, label: str, width: int, height: int, colour: bool) -> Iterator[Text]:
        view = self._run[label]
        title = Text(no_wrap=True, end="")
        span = (0.0, 1.0)
        if view.threshold is not None:
            title.append(label, "bold")
            share = f" {_percent(view.share)}"
            words = f"{share} of the area"
            title.append(words if len(label) + len(words) < width else share, DIM)
        else:
            title.append(label.split("/", 1)[1], "bold")
            given = span_of(view)
            if given is None:
                title.append(" no value", DIM)
            else:
                span = given
                unit = self._run.outputs[label].unit
                title.append(f" {span[0]:.3g} to {span[1]:.3g} {unit}", DIM)
        title.truncate(max(1, width - 1))
        size = max(1, width - 1), max(1, height - 1)
        lines = [title, *picture(view, *size, span=span, colour=colour)]
        lines += [Text(end="")] * (height - len(lines))
        return iter(lines[:height])


def arrange(shape: tuple[int, int], count: int, width: int, height: int) -> tuple[int, int]:
    """Columns of the grid, and how many of `count` maps to show, so that pictures are largest."""
    count = min(count, MAX_MAPS, max(1, width // 8) * max(1, height // 3))
    best = (-1.0, 1)
    for columns in range(1, count + 1):
        rows = math.ceil(count / columns)
        cell_width, cell_height = width // columns, height // rows
        if cell_width < 4 or cell_height < 2:
            continue
        picture_height, picture_width = fitted(shape, cell_width - 1, cell_height - 1)
        best = max(best, (float(picture_height * picture_width), columns))
    return best[1], count


def found_in(run: LiveRun, summary: dict[str, tuple[float, float]]) -> list[str]:
    """`run.detected` without going through the map again."""
    if run.closed is not None:
        return [label for label in run.detected if label in summary]
    return [label for label, (share, _) in summary.items() if share >= DETECTED_SHARE]


def choose_maps(run: LiveRun, summary: dict[str, tuple[float, float]]) -> list[str]:
    """What to draw, in the model's order: the labels detected, else the most probable ones, and the
    scalar outputs that are one map each, without the uncertainties of others.
    """
    found = found_in(run, summary)
    if not found:
        found = sorted(summary, key=lambda label: -summary[label][1])[:FIRST_GUESSES]
    scalars = _scalars(run) if run.ledger.processed else []
    scalars = scalars[: max(MIN_SCALARS, MAX_MAPS - len(found))]
    found = sorted(found, key=lambda label: -summary[label][0])[: MAX_MAPS - len(scalars)]
    return [label for label in run.elements if label in found] + scalars


def _scalars(run: LiveRun) -> list[str]:
    uncertain = {
        layer_key(package.name, output.uncertainty)
        for package in run.packages
        for output in package.outputs
        if output.uncertainty is not None
    }
    return [
        key
        for key, output in run.outputs.items()
        if output.kind == "scalar" and output.shape == () and key not in uncertain
    ]


def span_of(view: MapView) -> tuple[float, float] | None:
    """The values between which a map of scalars is drawn: the percentiles 1 and 99.

    None where no pixel has a value.
    """
    given = view.values[~view.mask]
    if not len(given):
        return None
    low, high = np.percentile(given, (1, 99))
    return float(low), float(high)


def label_shares(run: LiveRun) -> dict[str, dict[str, float]]:
    """Per output of kind label, the share of the mapped pixels of each name."""
    labels = [key for key, output in run.outputs.items() if output.kind == "label"]
    return {key: run[key].label_shares for key in labels} if run.ledger.processed else {}


def share_table(key: str, shares: dict[str, float]) -> Table:
    """The names of a label by the share of the area."""
    table = Table(box=None, padding=(1, 1, 0, 0), show_edge=False, header_style=DIM)
    table.add_column(key.split("/", 1)[1], no_wrap=True, ratio=1)
    table.add_column("area", justify="right", width=6)
    for name, share in sorted(shares.items(), key=lambda item: -item[1]):
        table.add_row(name, _percent(share), style="" if share else DIM)
    return table


def element_table(run: LiveRun, summary: dict[str, tuple[float, float]]) -> Table:
    """Elements by area share, those detected in bold."""
    table = Table(box=None, padding=(0, 1, 0, 0), show_edge=False, header_style=DIM)
    table.add_column("", width=3)
    table.add_column("area", justify="right", width=6)
    table.add_column("mean p", justify="right", width=6)
    detected = set(found_in(run, summary))
    order = sorted(summary, key=lambda label: (label not in detected, *_falling(summary[label])))
    for label in order[:MAX_MAPS]:
        share, mean = summary[label]
        style = "bold" if label in detected else DIM
        table.add_row(label, _percent(share), f"{mean:.2f}", style=style)
    return table


def _falling(pair: tuple[float, float]) -> tuple[float, float]:
    return -pair[0], -pair[1]


def ledger_line(ledger: LedgerTotals) -> Text:
    """announced = mapped + pending + missed + rejected, with what is wrong in red."""
    rejected = sum(ledger.rejected.values())
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{ledger.announced} announced = {ledger.processed} mapped + ")
    text.append(f"{ledger.pending} pending + ")
    text.append(f"{ledger.missed} missed", "bold red" if ledger.missed else "")
    text.append(" + ")
    text.append(f"{rejected} rejected", "bold red" if rejected else "")
    if not ledger.balanced:
        text.append("  DOES NOT BALANCE", "bold red")
    if ledger.duplicates:
        text.append(f"; {ledger.duplicates} twice", DIM)
    return text


def origin_line(run: LiveRun) -> Text:
    """Which model made the maps, on what."""
    text = Text(style=DIM, no_wrap=True, overflow="ellipsis")
    for package in run.packages:
        provider = package.provider.removesuffix("ExecutionProvider")
        text.append(f"{package.name} {package.version} ({package.sha256[:8]}) on {provider}  ")
    if not run.packages:
        text.append("no model takes the energy range of this run", "bold red")
    return text


def legend() -> Text:
    """What the colours mean."""
    text = Text("0 ", no_wrap=True, overflow="ellipsis", style=DIM)
    for step in range(0, ramp.STEPS, 4):
        red, green, blue = ramp.RAMP[step].tolist()
        text.append("█", Style.parse(f"rgb({red},{green},{blue})"))
    text.append(" 1")
    for name, (red, green, blue) in HOLES:
        text.append("  ")
        text.append("█", Style.parse(f"rgb({red},{green},{blue})"))
        text.append(f" {name}")
    return text


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 or share == 0 else f"{100 * share:.1f} %"


def _age(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def final_report(run: LiveRun, *, map_lines: int = 9) -> Group:
    """The state of a run for printing: maps, elements, ledger, origin."""
    summary = run.summary()
    labels = choose_maps(run, summary)
    parts: list[object] = [Text(run.start.title or "untitled", style="bold")]
    for first in range(0, len(labels), 3):
        parts.append(_Fixed(MapGrid(run, labels[first : first + 3]), map_lines))
    shares = label_shares(run)
    found = " ".join(run.detected) or "none"
    reason = "" if run.closed is None or not run.closed.reason else f" ({run.closed.reason})"
    parts += [
        *([Text(f"detected: {found}", style="bold")] if run.elements else []),
        *(Text(f"{key}: {_shares_line(item)}") for key, item in shares.items()),
        Text(_state(run) + reason),
        ledger_line(run.ledger),
        origin_line(run),
    ]
    return Group(*parts)  # type: ignore[arg-type]


def _shares_line(shares: dict[str, float]) -> str:
    named = sorted(shares.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {_percent(share)}" for name, share in named if share)


def _state(run: LiveRun) -> str:
    return "live" if run.closed is None else f"finished: {run.closed.status}"


class _Fixed:
    """A renderable of a stated height."""

    def __init__(self, inner: MapGrid, height: int) -> None:
        self._inner = inner
        self._height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._inner.__rich_console__(console, options.update(height=self._height))
