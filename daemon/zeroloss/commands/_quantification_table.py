"""What `zeroloss quantify` found: a table, ratios, and files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.table import Table

from zeroloss.maps import write_answers

from ._csv_rows import csv_rows, number
from ._quantification import DENSITY, ELEMENT_WHY, FRACTION, Quantified, QuantifyError
from ._reason_words import reason_words

Numbers = npt.NDArray[np.floating]

_WHOLE_PERCENT = 99.5


def table(found: Quantified) -> Table:
    """A line per element: atomic percent and atoms/nm² of the sum and of the pixels."""
    out = Table(box=None)
    names = [FRACTION] + ([DENSITY] if _given(found, DENSITY) else [])
    out.add_column("element")
    for name in names:
        unit = found.output(name).unit
        out.add_column(f"{unit} of the sum")
        out.add_column("mean of the pixels")
        out.add_column("16 to 84 %")
    out.add_column("missing or 0")
    for index, element in enumerate(found.elements):
        cells = [element]
        for name in names:
            error = found.output(name).uncertainty
            assert error is not None
            sums, pixels = found.summed, found.pixels
            cells.append(_with_error(sums[name][0, index], sums[error][0, index]))
            values, errors = pixels[name][:, index], pixels[error][:, index]
            there = np.isfinite(values)
            if not there.any():
                cells += ["none", ""]
                continue
            # The mean error, since what they have in common does not average out.
            spread = (
                float(np.nanmean(errors[there])) if np.isfinite(errors[there]).any() else np.nan
            )
            low, high = np.percentile(values[there], [16, 84])
            cells += [_with_error(float(values[there].mean()), spread), f"{low:.4g} to {high:.4g}"]
        out.add_row(*cells, _missing(found, index))
    return out


def _given(found: Quantified, name: str) -> bool:
    names = {item.name for item in found.analysis.outputs}
    return name in names and bool(np.isfinite(found.pixels[name]).any())


def _with_error(value: float, error: float) -> str:
    if not np.isfinite(value):
        return "none"
    if value == 0 and np.isfinite(error):
        return f"0, below {2 * error:.2g}"
    return f"{value:.4g}" + (f" ± {error:.2g}" if np.isfinite(error) else "")


def _missing(found: Quantified, index: int) -> str:
    """In how many pixels this element has no value, or 0, and why."""
    counted = _reasons(found, index).most_common()
    return ", ".join(f"{count} {word}" for word, count in counted)


def _reasons(found: Quantified, index: int) -> Counter[str]:
    values = found.pixels[FRACTION][:, index]
    if ELEMENT_WHY in found.pixels:
        words = found.words(FRACTION, found.pixels[ELEMENT_WHY][:, index])
        asked = found.pixels[ELEMENT_WHY][:, index] != 0
    else:
        words, asked = found.reasons(FRACTION), np.isnan(values)
    return Counter(word for word, told in zip(words, asked, strict=True) if told)


def why_none(found: Quantified) -> str:
    """Why no pixel has a fraction, element by element; those of the same reasons together."""
    elements: dict[str, list[str]] = {}
    for index, element in enumerate(found.elements):
        said = ", ".join(word for word, _ in _reasons(found, index).most_common())
        elements.setdefault(said, []).append(element)
    told = "; ".join(f"{', '.join(names)}: {said}" for said, names in elements.items())
    return f"{told}; choose elements whose edges stand out from {found.range_ev}"


def alone(found: Quantified) -> str | None:
    """Of which elements the percentages are, where others that were chosen have none.

    None also where those count in the whole, as what cannot be told apart does.
    """
    whole = found.summed[FRACTION][0]
    has = np.isfinite(found.pixels[FRACTION]).any(axis=0) | np.isfinite(whole)
    if has.all() or not np.nansum(whole) > _WHOLE_PERCENT:
        return None
    there = [name for name, given in zip(found.elements, has, strict=True) if given]
    others = [name for name in found.elements if name not in there]
    return f"percentages are of {', '.join(there)} alone: {', '.join(others)} have none"


def ratios_asked(texts: Sequence[str], elements: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of elements of texts like Mn/O; `QuantifyError` for others, or not chosen ones."""
    pairs = []
    for text in texts:
        above, _, below = text.partition("/")
        strange = [item for item in (above, below) if item not in elements]
        if strange or above == below:
            raise QuantifyError(
                f"--ratio {text}: expected two different of the elements {' '.join(elements)}, "
                "like Mn/O"
            )
        pairs.append((above, below))
    return pairs


def ratio_of_sum(found: Quantified, above: str, below: str) -> str:
    """Atoms of one element over those of another in the sum of all pixels, in words."""
    error = found.output(FRACTION).uncertainty
    assert error is not None
    percent, why = found.summed[FRACTION][0], found.reason_of_sum(FRACTION)
    if ELEMENT_WHY in found.summed:
        words = found.words(FRACTION, found.summed[ELEMENT_WHY][0])
        places = [found.elements.index(item) for item in (above, below)]
        # Each once, in the order of the pair.
        why = " and ".join(dict.fromkeys(words[i] for i in places if not np.isfinite(percent[i])))
    return ratio(
        found.elements,
        percent.astype(np.float64),
        found.summed[error][0].astype(np.float64),
        (above, below),
        why,
    )


def ratio(
    elements: Sequence[str], percent: Numbers, errors: Numbers, pair: tuple[str, str], why: str
) -> str:
    """The ratio of the amounts of a pair of elements with one standard deviation, in words.

    `percent` and `errors` [elements] are their shares, `why` is the reason where one has no value.
    Where nothing was found of one of the two, what its amount stays below with 2 standard
    deviations bounds the ratio (E. C. Fieller, J. R. Stat. Soc. B 16, 175 (1954), of independent
    amounts); there is no bound where the other amount is not above 2 of its own.
    """
    places = [elements.index(item) for item in pair]
    shares = percent[places]
    unknown = [item for item, share in zip(pair, shares, strict=True) if not np.isfinite(share)]
    if unknown:
        return f"not given: {' and '.join(unknown)}: {why}"
    nothing = [item for item, share in zip(pair, shares, strict=True) if share <= 0]
    if len(nothing) == 2:
        return f"not given: neither {pair[0]} nor {pair[1]} was found"
    variances = amount_variances(percent, errors)[places]
    if not nothing:
        value = shares[0] / shares[1]
        error = value * np.sqrt(variances.sum())
        return (
            f"{_with_error(float(value), float(error))} (from the errors of the percentages, "
            "amounts taken as independent)"
        )
    none = pair.index(nothing[0])
    there = pair[1 - none]
    most = 2 * errors[places[none]]
    certain = 1 - 4 * variances[1 - none]
    if not (np.isfinite(most) and most > 0):
        return f"not given: no {nothing[0]} was found, and its error is not known"
    if not certain > 0:
        return f"not given: no {nothing[0]} was found, and {there} is not certain either"
    bound = most / (shares[1 - none] * np.sqrt(certain))
    told = f"below {bound:.2g}" if none == 0 else f"above {1 / bound:.2g}"
    return f"{told} (2 standard deviations; no {nothing[0]} was found)"


def amount_variances(percent: Numbers, errors: Numbers) -> npt.NDArray[np.float64]:
    """Relative variances [n] of the amounts that atomic percents [n] with errors are shares of.

    A share f_i = N_i / sum N of amounts with independent relative variances u has itself the
    relative variance (1 - 2 f_i) u_i + sum_j f_j^2 u_j. This is solved for u. Of two elements only
    the sum of both is determined, which is all that their ratio needs. Shares of a ratio are not
    independent; amounts nearly are. NaN where a share is not above 0.
    """
    known = np.isfinite(percent) & (percent > 0) & np.isfinite(errors)
    found = np.full(len(percent), np.nan)
    share = percent[known] / 100
    system = np.diag(1 - 2 * share) + share**2
    relative = (errors[known] / percent[known]) ** 2
    solved, *_ = np.linalg.lstsq(system, relative, rcond=1e-9)
    found[known] = np.maximum(solved, 0.0)
    return found


def write_csv(path: Path | None, found: Quantified, columns: int) -> None:
    """A line per pixel with every output of the model, reasons in words."""
    header, cells = ["row", "column"], []
    for item in found.outputs:
        values = found.pixels[item.name]
        if item.kind == "label":
            header.append(item.name)
            cells.append([[word] for word in reason_words(item.labels, values).tolist()])
            continue
        labels = item.labels if item.shape else ("",)
        if item.name == ELEMENT_WHY:
            header += [f"{item.name} {label}" for label in labels]
            cells.append([found.words(FRACTION, row) for row in values])
            continue
        header += [f"{item.name} {label}".rstrip() for label in labels]
        rows = values.reshape(len(values), -1)
        cells.append([[number(value) for value in row] for row in rows.tolist()])
    with csv_rows(path, header) as lines:
        if lines is None:
            return
        for pixel, parts in enumerate(zip(*cells, strict=True)):
            values_of = [cell for part in parts for cell in part]
            lines.writerow([pixel // columns, pixel % columns, *values_of])


def write_map(path: Path, found: Quantified, shape: tuple[int, int]) -> None:
    """A signal per output, for HyperSpy, as in the map file of a live run."""
    info = found.analysis.info
    maps = tuple(item for item in info.outputs if item.name in found.pixels)
    write_answers(
        path,
        found.start,
        replace(info, outputs=maps),
        {name: values.reshape(*shape, *values.shape[1:]) for name, values in found.pixels.items()},
        looked_at={
            "file": found.start.metadata.get("file"),
            "rows": (0, shape[0]),
            "columns": (0, shape[1]),
        },
    )
