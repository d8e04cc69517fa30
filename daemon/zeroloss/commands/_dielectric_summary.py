"""What `zeroloss dielectric` found, on a terminal."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
from rich.table import Table
from rich.text import Text

from zeroloss.models.manifest import Output

from ._dielectric import Answers


def summary(answers: Answers) -> Table:
    """A line per output: its value, or median and 16 to 84 % of the pixels, and what is missing."""
    table = Table(box=None)
    for heading in ("output", "value", "given", "missing"):
        table.add_column(heading)
    outputs = answers.analysis.outputs
    errors = {item.uncertainty for item in outputs}
    for item in outputs:
        if item.kind == "label" or item.name in errors:
            continue
        values = answers.values[item.name]
        values = values.reshape(answers.answered.size, *item.shape)
        if item.kind == "spectrum":
            table.add_row(item.name, _curves(item), *map(Text, _given(answers, item, values)))
            continue
        for index in np.ndindex(*item.shape):
            name = item.labels[index[0]] if item.labels else " ".join(map(str, index))
            here = values[(slice(None), *index)]
            table.add_row(
                f"{item.name} {name}".strip(),
                _value(answers, item, here, index),
                *map(Text, _given(answers, item, here)),
            )
    return table


def head_lines(title: str, answers: Answers) -> tuple[str, ...]:
    """Which pixels of what, which model, and what it was told beside the spectra."""
    region, info = answers.region, answers.analysis.info
    rows, columns = ("{}:{}".format(*span) for span in (region.rows, region.columns))
    pixels = "pixel" if region.pixels == 1 else "pixels"
    sums = ", added up" if answers.summed else ""
    told = [
        f"{item.name} not known"
        if item.value is None
        else f"{item.name} {item.value:g} {item.unit}".rstrip()
        for item in info.parameters
    ]
    return (
        f"{title}: {region.pixels} {pixels} ({rows}, {columns}){sums}",
        f"{info.name} {info.version} {info.sha256[:12]} on {info.provider}",
        ", ".join(told) or "no parameters",
    )


def _value(
    answers: Answers, item: Output, values: npt.NDArray[np.float32], index: tuple[int, ...]
) -> str:
    known = np.isfinite(values)
    if not known.any():
        return "none"
    error = ""
    if item.uncertainty is not None:
        errors = answers.values[item.uncertainty].reshape(len(values), *item.shape)
        spread = errors[(known, *index)]
        spread = spread[np.isfinite(spread)]
        error = f" ± {np.median(spread):.3g}" if spread.size else ""
    low, middle, high = np.percentile(values[known], [16, 50, 84])
    text = f"{middle:.4g}{error} {item.unit}".rstrip()
    return text if len(values) == 1 else f"{text}, of the pixels {low:.4g} to {high:.4g}"


def _curves(item: Output) -> str:
    what = f"{item.shape[-1]} channels"
    if item.axis is not None:
        last = item.axis.offset_ev + item.axis.scale_ev * (item.shape[-1] - 1)
        what = f"{item.axis.offset_ev:g} to {last:g} eV, {what}"
    return f"{what}: {', '.join(item.labels)}" if item.labels else what


def _given(answers: Answers, item: Output, values: npt.NDArray[np.float32]) -> tuple[str, str]:
    """In how many pixels there is a value, and why not in the others, or not in all channels."""
    missing = np.isnan(values.reshape(len(values), -1))
    words: Counter[str] = Counter()
    if item.reason is not None:
        words.update(answers.reasons(item.reason).ravel()[missing.any(axis=1)].tolist())
    return f"{np.count_nonzero(~missing.all(axis=1))} of {len(values)}", ", ".join(
        f"{count} {word}" for word, count in words.most_common()
    )
