"""Thickness t/λ of measured low-loss spectra against what was noted at the microscope.

    python benchmarks/thickness_series.py FOLDER
    python benchmarks/thickness_series.py FOLDER --plots plots --package low_loss

FOLDER holds spectra whose file names end in the t/λ that was noted, like `thin_0.30.dm3`; files
without a number are measured as well. All go through one model package (by default the embedded
one that needs no training), as they are: the zero-loss peak may lie anywhere near 0 eV. Expected is
a difference below 0.03 or 5 %, whichever is larger. Where a .dm3 file tells the zero-loss counts
that the number was noted at, they are given as a part of those in the file: a number noted at an
early moment of a running sum need not be that of the file. Needs the extra `hyperspy`; `--plots`
the extra `export`.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

import zeroloss.models
from zeroloss.models import ModelSession, load_package
from zeroloss.recording.spectrum_files import SpectrumFileError, read_spectrum_file

BUILTIN: Final = Path(zeroloss.models.__file__).parent / "builtin"
SUFFIXES: Final = (".dm3", ".dm4", ".msa", ".hspy", ".txt", ".csv")
SMALLEST: Final = 0.03
RELATIVE: Final = 0.05
_NUMBER: Final = re.compile(r"_(\d+\.\d+)$")


@dataclass(frozen=True, slots=True)
class Row:
    """A measured file: t/λ as found and as noted (NaN: neither), and what it was found from.

    ``share`` is the zero-loss counts that the noted number was made from, as a part of the file's.
    """

    name: str
    noted: float
    found: float
    why: str
    shift_ev: float
    share: float
    counts: NDArray[np.float32]
    zero_loss: NDArray[np.float32]
    energy_ev: NDArray[np.float64]
    grid_ev: NDArray[np.float64]
    grid_step: float

    @property
    def deviation(self) -> float:
        """Found less noted."""
        return self.found - self.noted

    @property
    def agrees(self) -> bool:
        """Whether the deviation is as small as expected."""
        return abs(self.deviation) <= max(SMALLEST, RELATIVE * self.noted)


def measure(path: Path, session: ModelSession) -> Row:
    """Run one file through the package."""
    file = read_spectrum_file(path)
    axis = file.ranges[0]
    counts = np.asarray(file.counts[axis.name], np.float32).sum(0, keepdims=True)
    answer = session.run(counts, axis.offset_ev, axis.scale_ev)
    outputs = {item.name: item for item in session.package.manifest.outputs}
    reason = outputs["thickness_reason"].labels[int(answer["thickness_reason"][0])]
    spectrum = outputs["zero_loss"].axis
    assert spectrum is not None
    zero_loss = np.atleast_2d(answer["zero_loss"][0])
    zero_loss = zero_loss[len(zero_loss) // 2]
    number = _NUMBER.search(path.stem)
    shift = float(answer["zero_loss_shift"][0])
    return Row(
        name=path.stem,
        noted=float(number.group(1)) if number else math.nan,
        found=float(answer["thickness"][0]),
        why=reason,
        shift_ev=shift,
        share=noted_counts(path) / float(np.nansum(zero_loss)),
        counts=counts[0],
        zero_loss=zero_loss,
        energy_ev=axis.offset_ev + axis.scale_ev * np.arange(axis.size) - shift,
        grid_ev=spectrum.offset_ev + spectrum.scale_ev * np.arange(len(zero_loss)),
        grid_step=axis.scale_ev / spectrum.scale_ev,
    )


def noted_counts(path: Path) -> float:
    """Zero-loss counts in the tags of a DigitalMicrograph file, NaN where there are none."""
    if path.suffix.lower() not in (".dm3", ".dm4"):
        return math.nan
    from rsciio.digitalmicrograph import file_reader

    for image in file_reader(str(path)):
        tags = image["original_metadata"].get("ImageList", {}).get("TagGroup0", {})
        eels = tags.get("ImageTags", {}).get("EELS", {})
        if "Zero-loss" in eels:
            return float(eels["Zero-loss"]["Intensity"])
    return math.nan


def plot(row: Row, folder: Path) -> None:
    """The spectrum, its zero-loss peak and the two numbers."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    inelastic = row.counts[row.energy_ev > 5.0]
    top = float(inelastic.max()) if inelastic.size else float(row.counts.max())
    for pane in panes:
        pane.plot(row.energy_ev, row.counts, lw=0.7, label="spectrum")
        pane.plot(row.grid_ev, row.zero_loss * row.grid_step, lw=1, label="zero loss")
        pane.set_xlabel("energy loss / eV")
        pane.set_xlim(row.energy_ev[0], row.energy_ev[-1])
    panes[0].set_yscale("log")
    panes[0].set_ylim(max(1.0, 1e-5 * float(row.counts.max())), 2 * float(row.counts.max()))
    panes[0].set_ylabel("counts")
    panes[1].set_ylim(-0.02 * top, 1.2 * top)
    panes[1].legend()
    share = "" if math.isnan(row.share) else f", noted at {row.share:.2f} of these counts"
    figure.suptitle(f"{row.name}: t/λ {row.found:.3f}, noted {row.noted:.2f}{share}")
    figure.savefig(folder / f"{row.name}.png", dpi=80)
    plt.close(figure)


def report(rows: Sequence[Row]) -> None:
    """Print the table."""
    print(
        f"{'file':<38}{'t/λ':>8}{'noted':>7}{'off':>8}{'off %':>7}{'shift eV':>10}{'noted at':>10}"
    )
    for row in rows:
        line = f"{row.name[:37]:<38}"
        if math.isnan(row.found):
            line += f"  none: {row.why}"
        elif math.isnan(row.noted):
            line += f"{row.found:>8.3f}{'-':>7}{'-':>8}{'-':>7}{row.shift_ev:>10.2f}{'-':>10}"
        else:
            share = "-" if math.isnan(row.share) else f"{row.share:.2f} N"
            line += (
                f"{row.found:>8.3f}{row.noted:>7.2f}{row.deviation:>8.3f}"
                f"{100 * row.deviation / row.noted:>7.1f}{row.shift_ev:>10.2f}{share:>10}"
            )
            line += "" if row.agrees else "   departs"
        print(line)
    judged = [row for row in rows if not math.isnan(row.noted)]
    off = [abs(row.deviation) if not math.isnan(row.found) else math.inf for row in judged]
    if not judged:
        print("no file name ends in a number to compare with")
        return
    good = sum(row.agrees for row in judged)
    print(
        f"median deviation {np.median(off):.3f}, largest {max(off):.3f}; within {SMALLEST} or "
        f"{RELATIVE:.0%}: {good} of {len(judged)}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Print a row per file and the median and largest deviation."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--plots", type=Path, help="folder for a plot of each file")
    parser.add_argument(
        "--package", default="low_loss", help="embedded package or package folder (low_loss)"
    )
    args = parser.parse_args(argv)
    folder = BUILTIN / args.package if (BUILTIN / args.package).is_dir() else Path(args.package)
    session = ModelSession(load_package(folder))
    paths = sorted(path for path in args.folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SystemExit(f"{args.folder} holds no spectra ({' '.join(SUFFIXES)})")
    rows = []
    for path in paths:
        try:
            rows.append(measure(path, session))
        except SpectrumFileError as error:
            print(f"left out: {error}")
    if args.plots:
        args.plots.mkdir(parents=True, exist_ok=True)
        for row in rows:
            plot(row, args.plots)
    report(rows)


if __name__ == "__main__":
    main()
