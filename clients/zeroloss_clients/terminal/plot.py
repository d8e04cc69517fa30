"""A spectrum as lines of text: columns of block characters over the energy axis."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

BLOCKS = " ▁▂▃▄▅▆▇█"
PLAIN = " #"


def plot_lines(
    energies_ev: npt.NDArray[np.float64],
    values: npt.NDArray[np.floating],
    *,
    columns: int,
    lines: int,
    log: bool = False,
    blocks: bool = True,
) -> list[str]:
    """The values [channels] as a bar chart of at most `columns` x `lines`, axes included.

    Every column is the mean of its channels; columns without a valid channel stay empty. `log`
    shows the logarithm of what is above zero; `blocks` False uses plain characters only.
    """
    ink = BLOCKS if blocks else PLAIN
    frame = 11
    width = max(1, min(columns - frame, len(values)))
    heights = _means(values, width)
    if log:
        heights = np.log10(heights, out=np.full(width, np.nan), where=heights > 0)
    known = heights[np.isfinite(heights)]
    if not len(known):
        return ["no channel is valid"]
    low, high = (float(known.min()) if log else min(0.0, float(known.min()))), float(known.max())
    rows = max(2, lines - 2)
    steps = rows * (len(ink) - 1)
    scaled = np.nan_to_num((heights - low) / ((high - low) or 1.0) * steps)
    # What is there is never drawn as nothing.
    filled = np.where(np.isfinite(heights), np.clip(np.ceil(scaled), 1, steps), 0).astype(int)
    out = []
    for row in range(rows):
        below = (rows - 1 - row) * (len(ink) - 1)
        part = np.clip(filled - below, 0, len(ink) - 1)
        bar = "".join(ink[step] for step in part)
        out.append(f"{_tick(row, rows, low, high, log):>{frame - 2}} |{bar}".rstrip())
    first, last = f"{energies_ev[0]:g}", f"{energies_ev[-1]:g} eV"
    gap = max(1, width - len(first) - len(last))
    out.append(" " * (frame - 1) + "+" + "-" * width)
    out.append(" " * frame + first + " " * gap + last)
    return out


def _means(values: npt.NDArray[np.floating], width: int) -> npt.NDArray[np.float64]:
    edges = np.arange(width) * len(values) // width
    valid = np.isfinite(values)
    total = np.add.reduceat(np.where(valid, values, 0.0).astype(np.float64), edges)
    count = np.add.reduceat(valid.astype(np.float64), edges)
    means = np.full(width, math.nan)
    np.divide(total, count, out=means, where=count > 0)
    return means


def _tick(row: int, rows: int, low: float, high: float, log: bool) -> str:
    if row not in (0, rows - 1):
        return ""
    value = high if row == 0 else low
    return f"{10**value if log else value:.4g}"
