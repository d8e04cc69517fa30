"""What `zeroloss models` says of a package: a few lines in the list, everything on demand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from rich.filesize import decimal
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from zeroloss.models import ModelPackage
    from zeroloss.models.manifest import Manifest, Output, Parameter, Takes

Line = tuple[str, str]
"""What a line is about, and what it says."""
FEW = 6
"""Labels that are all named in the list."""
MANY = 12
"""Outputs that are named in the list."""
HASH_DIGITS = 12
OF_CHOSEN = " of each that is chosen"


def print_block(console: Console, heading: str, lines: Sequence[Line]) -> None:
    """A heading with lines below it, folded beside their names; whole lines where nobody looks."""
    console.print(Text(heading, style="bold"), soft_wrap=not console.is_terminal)
    width = max(len(name) for name, _ in lines)
    if not console.is_terminal:
        for name, said in lines:
            console.print(f"  {name:<{width}}  {said}", markup=False, soft_wrap=True)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=width)
    table.add_column(overflow="fold")
    for name, said in lines:
        table.add_row(Text(name, style="dim"), Text(said))
    console.print(Padding(table, (0, 0, 0, 2)))


def heading(package: ModelPackage) -> str:
    """Name, version and title."""
    manifest = package.manifest
    return f"{manifest.name} {manifest.version}: {manifest.title}"


def summary(package: ModelPackage) -> list[Line]:
    """What it takes, gives, when it runs, and which file it is, in a line each."""
    manifest = package.manifest
    return [
        ("takes", "; ".join(_takes(manifest))),
        ("gives", "; ".join(_shortened([*_gives_briefly(manifest)]))),
        ("runs", _runs(manifest)),
        ("file", f"{_graph(package)}, sha256 {package.sha256[:HASH_DIGITS]}, {package.folder}"),
    ]


def everything(package: ModelPackage) -> list[Line]:
    """All that the manifest says, and where it lies."""
    manifest, graph, trained = package.manifest, package.manifest.graph, package.manifest.trained
    lines = [("about", manifest.description)]
    lines += [("takes", said) for said in _takes(manifest)]
    selection = manifest.takes.selection
    if selection is not None:
        lines.append((selection.name, " ".join(selection.labels)))
    lines += [("parameter", _parameter(item)) for item in manifest.parameters]
    told: tuple[str, ...] = ()
    for output in manifest.outputs:
        lines.append(("gives", _gives(output)))
        if output.kind != "label" and output.labels not in ((), told):
            told = output.labels
            lines.append(("labels", ", ".join(told)))
    gpu = ", ".join(map(str, manifest.buckets.gpu))
    lines += [
        ("runs", _runs(manifest)),
        ("batches", f"{manifest.buckets.cpu} spectra on a CPU, {gpu} on a GPU"),
        ("folder", str(package.folder)),
        ("sha256", package.sha256),
        ("graph", f"{_graph(package)}, opset {graph.opset}"),
        ("deviation", f"{graph.max_error:.2g} from torch at export, limit {graph.error_limit:.2g}"),
        ("made", f"{trained.date}, {trained.software}"),
        ("from", f"{trained.data}; {trained.spectra} spectra"),
    ]
    lines += [("member", member) for member in trained.members]
    lines += [("measured", f"{name} {value:g}") for name, value in trained.metrics.items()]
    return [_once(*pair) for pair in zip(lines, [("", ""), *lines], strict=False)]


def _once(line: Line, before: Line) -> Line:
    return ("", line[1]) if line[0] == before[0] else line


def _graph(package: ModelPackage) -> str:
    return f"{decimal(package.graph_bytes)}, {package.manifest.graph.precision}"


def _takes(manifest: Manifest) -> Iterator[str]:
    takes = manifest.takes
    yield _spectra(takes)
    if takes.signed_counts:
        yield "negative counts too"
    if takes.low_loss:
        yield "uses the low loss of the same pixel"
    if takes.selection is not None:
        some = _few(takes.selection.labels)
        yield f"{takes.selection.name}: up to {takes.selection.slots} of {some}"
    for source, items in groupby(manifest.parameters, lambda item: item.source == "given"):
        names = ", ".join(item.name for item in items)
        yield f"{names} {'as set by you' if source else 'of the run'}"


def _spectra(takes: Takes) -> str:
    begin, end = takes.window_ev
    text = (
        f"{takes.modality}, a range that overlaps {begin:g} to {end:g} eV, up to "
        f"{takes.max_channels} channels"
    )
    if takes.scale_ev is not None:
        low, high = takes.scale_ev
        text += f" of {low:g} to {high:g} eV"
    return text


def _runs(manifest: Manifest) -> str:
    from zeroloss.models.parameters import selecting

    text = "only when named" if manifest.when_named else "in every run that fits"
    if manifest.takes.selection is not None:
        text = f"with {selecting(manifest)}"
    if manifest.stands_in:
        text += "; stands in for a trained one"
    return text


def _few(labels: Sequence[str]) -> str:
    if len(labels) <= FEW:
        return (", " if any(" " in label for label in labels) else " ").join(labels)
    return f"{len(labels)}, {labels[0]} to {labels[-1]}"


def _gives_briefly(manifest: Manifest) -> Iterator[str]:
    """Values for the map with their errors; then spectra, and what tells why values are missing."""
    errors = {item.uncertainty for item in manifest.outputs}
    reasons = {item.reason for item in manifest.outputs}
    for item in manifest.outputs:
        if item.name not in errors | reasons and item.kind != "spectrum":
            yield _value(item)
    spectra = [item.name for item in manifest.outputs if item.kind == "spectrum"]
    if spectra:
        yield f"spectra: {', '.join(spectra)}"
    given = [item.name for item in manifest.outputs if item.name in reasons]
    if given:
        yield f"why values are missing: {', '.join(given)}"


def _shortened(values: list[str]) -> list[str]:
    if len(values) <= MANY:
        return values
    return [*values[: MANY - 1], f"and {len(values) - MANY + 1} more"]


def _value(output: Output) -> str:
    text = _with_unit(output)
    if output.selected:
        text += OF_CHOSEN
    elif output.kind == "label":
        text += f": one of {len(output.labels)} labels"
    elif len(output.labels) > 1:
        text += f" of {_few(output.labels)}"
    elif not output.labels:
        text += _size(output)
    return text if output.uncertainty is None else f"{text} ± {output.uncertainty}"


def _with_unit(output: Output) -> str:
    return f"{output.name} ({output.unit})" if output.unit else output.name


def _size(output: Output) -> str:
    """How many values it is, where it is not a single one."""
    return f", {' x '.join(map(str, output.shape))} values" if output.shape else ""


def _parameter(item: Parameter) -> str:
    source = "set by you" if item.source == "given" else f"{item.source} of the run"
    default = "no default" if item.default is None else f"default {item.default:g}"
    return f"{item.name} {item.low:g} to {item.high:g} {item.unit}".rstrip() + (
        f", {source}, {default}: {item.description}"
    )


def _gives(output: Output) -> str:
    if output.kind == "label":
        return f"{output.name}: {', '.join(output.labels)}"
    text = _with_unit(output) + (OF_CHOSEN if output.selected else _size(output))
    if output.kind == "spectrum":
        text += ", spectrum"
    if output.threshold is not None:
        text += f", present from {output.threshold:g} on"
    if output.uncertainty is not None:
        text += f" ± {output.uncertainty}"
    if output.shifts_axis:
        text += ", corrects the axis of other ranges"
    if output.reason is not None:
        text += f" (why it is missing: {output.reason})"
    return text
