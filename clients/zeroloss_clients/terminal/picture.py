"""One map as lines of text: two pixels per character, holes in colours of their own."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from rich.color import Color
from rich.style import Style
from rich.text import Text

from zeroloss.scan import Coverage

from .._live_run import MapView
from . import ramp

PLAIN = " .:-=+*#%@"
PLAIN_STATES = {
    Coverage.UNSEEN: " ",
    Coverage.PENDING: "?",
    Coverage.LOST: "x",
    Coverage.REJECTED: "!",
}
STATE_COLOURS = {
    Coverage.UNSEEN: ramp.UNSEEN,
    Coverage.PENDING: ramp.PENDING,
    Coverage.LOST: ramp.LOST,
    Coverage.REJECTED: ramp.REJECTED,
}
PLAIN_MASKED = "~"
LINE_HEIGHT = 6
"""Half lines given to a line scan, which is one pixel high."""


def fitted(shape: tuple[int, int], columns: int, lines: int) -> tuple[int, int]:
    """Height (in half lines) and width of the picture of a map inside columns x lines."""
    rows, across = shape
    scale = min(columns / across, 2 * lines / rows)
    height, width = max(1, int(rows * scale)), max(1, int(across * scale))
    if rows * LINE_HEIGHT <= across:
        height = max(height, LINE_HEIGHT)
    return min(height, 2 * lines), min(width, columns)


def picture(
    view: MapView,
    columns: int,
    lines: int,
    *,
    span: tuple[float, float] = (0.0, 1.0),
    colour: bool = True,
) -> list[Text]:
    """The map inside columns x lines of a terminal, values from one end of `span` to the other as
    colours.

    A shrunk map shows the mean of the values that are given; a lost or rejected pixel is never
    averaged away. A mapped pixel without a value is a hole of its own colour. Without colour:
    characters of rising ink, one line per two rows.
    """
    height, width = fitted(view.shape, columns, lines)
    values, state = _resized(view, height, width)
    values = (values - span[0]) / ((span[1] - span[0]) or 1.0)
    if colour:
        return _half_blocks(values, state)
    return _plain(values, state)


def _resized(
    view: MapView, height: int, width: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    rows, columns = (
        np.unique(np.arange(new) * old // new, return_index=True)
        for new, old in zip((height, width), view.shape, strict=True)
    )
    given = ~view.mask
    total = _summed(np.where(given, view.values, 0.0), rows[0], columns[0])
    count = _summed(given.astype(np.float64), rows[0], columns[0])
    values = np.full(total.shape, np.nan, np.float32)
    np.divide(total, count, out=values, where=count > 0, casting="unsafe")
    state = np.zeros(total.shape, np.uint8)
    for code in (Coverage.PENDING, Coverage.DONE, Coverage.REJECTED, Coverage.LOST):
        here = _summed((view.coverage == code).astype(np.float64), rows[0], columns[0]) > 0
        state[here] = code
    # A grown map repeats its pixels.
    down = np.repeat(np.arange(len(rows[1])), np.diff(np.append(rows[1], height)))
    across = np.repeat(np.arange(len(columns[1])), np.diff(np.append(columns[1], width)))
    return values[down][:, across], state[down][:, across]


def _summed(
    array: npt.NDArray[Any], rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    return np.add.reduceat(np.add.reduceat(array.astype(np.float64), rows, axis=0), columns, axis=1)


def _half_blocks(values: npt.NDArray[np.float32], state: npt.NDArray[np.uint8]) -> list[Text]:
    colours = ramp.colours_of(values)
    colours[np.isnan(values)] = ramp.MASKED
    for code, rgb in STATE_COLOURS.items():
        colours[state == code] = rgb
    if len(colours) % 2:
        colours = np.concatenate([colours, np.zeros_like(colours[:1])])
        last = True
    else:
        last = False
    lines: list[Text] = []
    for top, bottom in zip(colours[::2], colours[1::2], strict=True):
        line = Text(no_wrap=True, end="")
        ended = last and len(lines) == len(colours) // 2 - 1
        for upper, lower in zip(top.tolist(), bottom.tolist(), strict=True):
            below = None if ended else Color.from_rgb(*lower)
            line.append("▀", Style(color=Color.from_rgb(*upper), bgcolor=below))
        lines.append(line)
    return lines


def _plain(values: npt.NDArray[np.float32], state: npt.NDArray[np.uint8]) -> list[Text]:
    lines = []
    for row in range(0, len(values), 2):
        pair = values[row : row + 2]
        here = np.isfinite(pair)
        mean = np.where(here, pair, 0.0).sum(axis=0) / np.maximum(1, here.sum(axis=0))
        worst = state[row : row + 2].max(axis=0)
        index = np.clip(mean * len(PLAIN), 0, len(PLAIN) - 1).astype(int)
        inks = np.where(here.any(axis=0), [PLAIN[ink] for ink in index.tolist()], PLAIN_MASKED)
        lines.append(
            Text(
                "".join(
                    ink if code == Coverage.DONE else PLAIN_STATES[Coverage(code)]
                    for ink, code in zip(inks.tolist(), worst.tolist(), strict=True)
                ),
                no_wrap=True,
                end="",
            )
        )
    return lines
