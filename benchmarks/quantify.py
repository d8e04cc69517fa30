"""How right and how fast the quantification package is.

    python benchmarks/quantify.py
    python benchmarks/quantify.py --data FOLDER --seeds 5

Simulated: how often the interval of 95 % that follows from the stated error holds the truth, over
the pixels of specimens whose truth is known (`zeroloss_export.simulate.specimens`), and how far off
the values are; each seed draws another near-edge structure. Measured, with `--data`: N/B of boron
nitride and Mn/O of La0.7Sr0.3MnO3, in line scans of public sources that are not part of this
project; what is absent is left out and said so. Speed: spectra per second, with one axis, so that
the design matrix is made once, and with the low loss of every pixel. Each number stands beside what
is wanted. Needs the extras `export` and `hyperspy`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
from numpy.typing import NDArray

import zeroloss.models
from zeroloss.models import LowLoss, ModelSession, load_package
from zeroloss.recording.spectrum_files import SpectrumFile, read_spectrum_file
from zeroloss_export.simulate.specimens import SPECIMENS, Conditions, SpecimenScan, simulate

Floats = NDArray[np.float32]
Answers = dict[str, Floats]

BUILTIN: Final = Path(zeroloss.models.__file__).parent / "builtin"
SHIFT: Final = "zero_loss_shift"
Z_95: Final = 1.959964
WANTED_COVERAGE: Final = (0.93, 0.97)
WANTED_RATE: Final = 50_000
CHANNELS: Final = 1024


@dataclass(frozen=True, slots=True)
class Measured:
    """A line scan whose composition is known, and the microscope where the file does not tell.

    Energies of the core loss are `true[0] + stretch * (E - true[1])`, where the file is wrong.
    """

    title: str
    core: str
    low: str
    elements: tuple[str, str]
    wanted: tuple[float, float]
    beam_kev: float
    convergence_mrad: float
    collection_mrad: float
    stretch: float = 1.0
    true: tuple[float, float] = (0.0, 0.0)


MEASURED: Final = (
    # The semi-angles are those in the notes and fits that its authors published beside it (J.
    # Verbeeck, EELSMODEL, round robin T3_A3, region 3).
    Measured(
        "BN, N/B",
        "T3_A3_region3_SI_HL2_cal.dm3",
        "T3_A3_region3_SI_LL_cal.dm3",
        ("N", "B"),
        (1.00, 0.05),
        300.0,
        0.2,
        4.12,
    ),
    # Its O K begins at 527.5 eV and its Mn L3 at 632.5 eV: 529 and 641 in the literature.
    Measured(
        "La0.7Sr0.3MnO3, Mn/O",
        "LSMO_linescan.hdf5",
        "LSMO_linescan_low_loss.hdf5",
        ("Mn", "O"),
        (1 / 3, 0.03),
        80.0,
        27.42,
        33.19,
        1.07,
        (529.0, 527.5),
    ),
)


class Quantifier:
    """The package, and the one that tells where the zero-loss peak is."""

    def __init__(self, package: Path) -> None:
        self.session = ModelSession(load_package(package))
        self.shifting = ModelSession(load_package(BUILTIN / "low_loss"))
        selection = self.session.package.manifest.takes.selection
        assert selection is not None
        self.labels = selection.labels

    def selection(self, elements: Sequence[str]) -> tuple[int, ...]:
        """Indices of the elements, rising."""
        return tuple(sorted(self.labels.index(item) for item in elements))

    def shift_ev(self, counts: Floats, offset_ev: float, scale_ev: float) -> Floats:
        """Where the zero of the energy axis is [n], eV."""
        return np.nan_to_num(self.shifting.run(counts, offset_ev, scale_ev, [SHIFT])[SHIFT])

    def scan(self, scan: SpecimenScan) -> Answers:
        """Answers [pixels, elements] for the visible elements of a simulated scan."""
        given, core, low = scan.conditions, scan.core, scan.low
        low_counts = scan.low_counts.reshape(-1, low.channels).astype(np.float32)
        shift = self.shift_ev(low_counts, low.offset_ev, low.scale_ev)
        return self.session.run(
            scan.core_counts.reshape(-1, core.channels),
            core.offset_ev - shift,
            core.scale_ev,
            parameters={
                "beam_kev": given.beam_kev,
                "convergence_mrad": given.convergence_mrad,
                "collection_mrad": given.collection_mrad,
                "exposure_ratio": given.exposure_ratio,
            },
            selection=self.selection(scan.visible),
            low_loss=LowLoss(low_counts, low.offset_ev - shift, low.scale_ev),
        )


def coverage(
    quantifier: Quantifier,
    name: str,
    seeds: Sequence[int],
    shape: tuple[int, int],
    given: Conditions,
) -> None:
    """Print how often the interval of 95 % holds the truth, and how far off the values are."""
    held: dict[tuple[str, str], list[NDArray[np.bool_]]] = {}
    off: dict[tuple[str, str], list[float]] = {}
    pulls: dict[tuple[str, str], list[float]] = {}
    chi2 = []
    for seed in seeds:
        scan = simulate(name, shape, seed, given)
        answers = quantifier.scan(scan)
        chi2.append(float(np.nanmedian(answers["fit_chi2"])))
        rows = [scan.elements.index(item) for item in scan.visible]
        truths = {
            "areal_density": scan.areal_density[rows].reshape(len(rows), -1),
            "atomic_fraction": scan.atomic_fraction().reshape(len(rows), -1),
        }
        for output, truth in truths.items():
            value, error = answers[output].T, answers[f"{output}_error"].T
            for index, element in enumerate(scan.visible):
                known = np.isfinite(value[index]) & np.isfinite(error[index])
                pull = (value[index] - truth[index]) / error[index]
                held.setdefault((output, element), []).append(np.abs(pull[known]) <= Z_95)
                mean = truth[index][known].mean()
                off.setdefault((output, element), []).append(
                    float((value[index][known].mean() - mean) / mean)
                )
                pulls.setdefault((output, element), []).append(float(np.std(pull[known])))
    moving = ", with drift and contamination" if given.drift else ""
    print(
        f"\n{SPECIMENS[name].title}{moving}: {len(seeds)} seeds of {shape[0]} x {shape[1]} pixels"
    )
    print(f"fit chi2, median of each seed: {' '.join(f'{item:.2f}' for item in chi2)}")
    print(f"{'':<24}{'in 95 %':>9}{'of each seed':>22}{'mean off %':>12}{'spread/error':>14}")
    for (output, element), parts in held.items():
        share = float(np.concatenate(parts).mean())
        each = " ".join(f"{100 * part.mean():.0f}" for part in parts)
        mean_off = 100 * np.mean(np.abs(off[output, element]))
        spread = np.mean(pulls[output, element])
        print(
            f"{output + ' ' + element:<24}{100 * share:>8.1f}%{each:>22}{mean_off:>12.2f}"
            f"{spread:>14.2f}{_judged(share)}"
        )
    for output in ("areal_density", "atomic_fraction"):
        share = float(
            np.concatenate([p for key, v in held.items() if key[0] == output for p in v]).mean()
        )
        print(f"{output + ', pooled':<24}{100 * share:>8.1f}%{_judged(share)}")


def _judged(share: float) -> str:
    low, high = WANTED_COVERAGE
    return "" if low <= share <= high else f"   wanted {100 * low:.0f} to {100 * high:.0f} %"


def measured(quantifier: Quantifier, folder: Path) -> None:
    """Print the ratios of the measured line scans: of their sum, and over the pixels."""
    print(f"\n{'measured':<24}{'of the sum':>18}{'of the pixels':>24}{'wanted':>16}")
    for item in MEASURED:
        paths = folder / item.core, folder / item.low
        if not all(path.exists() for path in paths):
            print(f"{item.title:<24} left out: {item.core} and {item.low} are not in {folder}")
            continue
        core, low = read_spectrum_file(paths[0]), read_spectrum_file(paths[1])
        for low_loss, beside in ((low, "with"), (None, "without")):
            of_sum, of_pixels = _ratios(quantifier, item, core, low_loss)
            agrees = abs(of_sum - item.wanted[0]) <= item.wanted[1]
            print(
                f"{item.title:<24}{of_sum:>18.3f}{of_pixels[0]:>16.3f} ± {of_pixels[1]:.3f}"
                f"{item.wanted[0]:>9.3f} ± {item.wanted[1]:.2f}  {beside} low loss"
                + ("" if agrees else "   departs")
            )


def _ratios(
    quantifier: Quantifier, item: Measured, core: SpectrumFile, low: SpectrumFile | None
) -> tuple[float, tuple[float, float]]:
    """Ratio of the summed spectrum, and mean and standard deviation over the pixels."""
    axis = core.ranges[0]
    counts = np.asarray(core.counts[axis.name], np.float32)
    offset = item.true[0] + item.stretch * (axis.offset_ev - item.true[1])
    chosen = quantifier.selection(item.elements)
    names = [quantifier.labels[index] for index in chosen]
    above, below = (names.index(element) for element in item.elements)
    told = {
        "beam_kev": item.beam_kev,
        "convergence_mrad": item.convergence_mrad,
        "collection_mrad": item.collection_mrad,
    }

    def ratio(rows: Floats, low_rows: Floats | None) -> NDArray[np.float64]:
        beside = None
        if low is not None and low_rows is not None:
            low_axis = low.ranges[0]
            # The two ranges were not taken at one time: the shift of one is not that of the other.
            shift = quantifier.shift_ev(low_rows, low_axis.offset_ev, low_axis.scale_ev)
            beside = LowLoss(low_rows, low_axis.offset_ev - shift, low_axis.scale_ev)
        scale = axis.scale_ev * item.stretch
        found = quantifier.session.run(
            rows, offset, scale, ["atomic_fraction", "why"], told, selection=chosen, low_loss=beside
        )["atomic_fraction"].astype(np.float64)
        return found[:, above] / found[:, below]

    low_counts = None
    if low is not None:
        low_counts = np.asarray(low.counts[low.ranges[0].name], np.float32)
    low_sum = None if low_counts is None else low_counts.sum(0, keepdims=True)
    whole = ratio(counts.sum(0, keepdims=True), low_sum)
    each = ratio(counts, low_counts)
    return float(whole[0]), (float(np.nanmean(each)), float(np.nanstd(each)))


def speed(quantifier: Quantifier, spectra: int, threads: int) -> None:
    """Print spectra per second of the maps' outputs."""
    rng = np.random.default_rng(1)
    energy = 400.0 + 0.5 * np.arange(CHANNELS)
    mean = 4e3 * (energy / 400) ** -3 + 300 * (energy > 456) * (energy / 456) ** -4
    counts = rng.poisson(mean, (spectra, CHANNELS)).astype(np.float32)
    chosen = quantifier.selection(("Ti", "O", "Mn", "La"))
    told = {"beam_kev": 200.0, "convergence_mrad": 22.0, "collection_mrad": 36.0}
    names = [o.name for o in quantifier.session.package.manifest.outputs if o.kind != "spectrum"]
    print(f"\n{CHANNELS} channels, 4 elements, {threads} threads, spectra/s, median of 5 rounds")
    print(f"{'':<36}{'as it was':>10}{f'by CPU time of {threads} free cores':>32}")

    def rate(rows: Floats, low: Floats | None) -> tuple[float, float]:
        parts = np.array_split(np.arange(len(rows)), threads * 4)

        def run(part: NDArray[np.intp]) -> None:
            beside = None if low is None else LowLoss(low[part], -25.0, 0.5)
            quantifier.session.run(
                rows[part], 400.0, 0.5, names, told, selection=chosen, low_loss=beside
            )

        run(parts[0])
        walls, cpus = [], []
        for _ in range(5):
            began, used = time.perf_counter(), time.process_time()
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(run, parts))
            walls.append(time.perf_counter() - began)
            cpus.append((time.process_time() - used) / threads)
        return len(rows) / median(walls), len(rows) / median(cpus)

    wall, cpu = rate(counts, None)
    print(f"{'one axis, no low loss':<36}{wall:>10.0f}{cpu:>32.0f}   wanted {WANTED_RATE} or more")
    few = counts[: threads * 4 * quantifier.session.smallest_bucket]
    peak = 1e6 * np.exp(-0.5 * ((np.arange(CHANNELS) - 50) / 1.0) ** 2)
    peak += 2e4 * np.exp(-0.5 * ((np.arange(CHANNELS) - 100) / 20) ** 2)
    low = rng.poisson(peak, (len(few), CHANNELS)).astype(np.float32)
    wall, cpu = rate(few, low)
    print(f"{'the low loss of every pixel':<36}{wall:>10.0f}{cpu:>32.0f}")


def main(argv: Sequence[str] | None = None) -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of measured line scans")
    parser.add_argument("--seeds", type=int, default=3, help="simulated scans of each (3)")
    parser.add_argument("--shape", type=int, nargs=2, default=(32, 48), help="their pixels (32 48)")
    parser.add_argument("--dose", type=float, default=3e8, help="electrons a pixel (3e8)")
    parser.add_argument("--all", action="store_true", help="every specimen, not the superlattice")
    parser.add_argument("--spectra", type=int, default=40_000, help="for the speed; 0: none")
    parser.add_argument("--threads", type=int, default=2, help="for the speed (2)")
    parser.add_argument(
        "--package", default="quantify", help="embedded package or package folder (quantify)"
    )
    args = parser.parse_args(argv)
    folder = BUILTIN / args.package if (BUILTIN / args.package).is_dir() else Path(args.package)
    quantifier = Quantifier(folder)
    print("interval of 95 %: value ± 1.96 errors; mean off: mean over the pixels, of each seed")
    shape = (args.shape[0], args.shape[1])
    for name in SPECIMENS if args.all else ("superlattice",):
        for moving in (False, True):
            given = Conditions(dose=args.dose, drift=moving, contamination=moving)
            coverage(quantifier, name, range(1, args.seeds + 1), shape, given)
    if args.data is None:
        print("\nmeasured line scans left out: no --data")
    else:
        measured(quantifier, args.data)
    if args.spectra:
        speed(quantifier, args.spectra, args.threads)


if __name__ == "__main__":
    main()
