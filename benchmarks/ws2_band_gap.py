"""Band gap of a measured specimen, as published for WS2 by Roest et al. (2021).

    python benchmarks/ws2_band_gap.py FOLDER
    python benchmarks/ws2_band_gap.py FOLDER --plots plots
    python benchmarks/ws2_band_gap.py --simulated 20

FOLDER holds one spectrum a text file, its axis told by the file name, `Vacuum` in the name of those
beside the specimen. The zero-loss peak is trained in sample mode on all sample spectra, and in
vacuum mode, where there are vacuum spectra, on those; every sample spectrum then goes through the
graph that a package of it holds. A row gives the band gap E_BG and the exponent b of the onset
A (E - E_BG)^b with their 68 % intervals over the replicas, how many replicas the training kept, and
chi squared per point of the matched zero-loss peak, noise and band together, against this very
spectrum between where training begins and the end of the matching window; there the graph takes the
spectrum's own counts, so it tells how alike the peaks are, not how good the subtraction. A value
that the graph masks is followed by its reason. The last line is that of the first sample spectrum,
in sample mode.

Published for the first spectrum: E_BG = 1.6 +0.3 -0.2 eV, b = 1.3 +0.3 -0.7 (T. E. Roest et al.,
Ultramicroscopy 222, 113202). Nothing of the method is set to this specimen. How often the intervals
hold a gap that is known is measured on simulated spectra of random instruments and materials:
`--simulated`.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from zeroloss_export.networks.low_loss.align import align
from zeroloss_export.networks.low_loss.gap import Gap
from zeroloss_export.networks.low_loss.graph import build_graph
from zeroloss_export.networks.low_loss.peak import PeakFinder
from zeroloss_export.networks.low_loss.subtract import Interpolated, window_mean
from zeroloss_export.networks.low_loss.table import ZeroLossTable
from zeroloss_export.simulate.low_loss import LowLossScan, random_scan, vacuum_scan
from zeroloss_export.training.zlp.points import FIRST_WIDTHS
from zeroloss_export.training.zlp.report import summary
from zeroloss_export.training.zlp.spectra import LowLossSpectra, prepare, read_low_loss
from zeroloss_export.training.zlp.training import Mode, TrainedZeroLoss, train_zero_loss

Floats = NDArray[np.float64]

REPLICAS: Final = 100
SIMULATED_REPLICAS: Final = 50
_NUMBER: Final = re.compile(r"\((\d+)\)")
_SHOWN_EV: Final = 5.0


@dataclass(frozen=True, slots=True)
class Found:
    """What the graph says of spectra [n]: 16, 50, 84 % of E_BG (eV) and b [n, 3], and why not.

    ``reason`` [n] is "given" where a map would have the values; ``chi2`` [n] per point.
    """

    gap_ev: Floats
    exponent: Floats
    reason: list[str]
    chi2: Floats


@torch.no_grad()
def find_gaps(table: ZeroLossTable, spectra: LowLossSpectra) -> Found:
    """Run the graph of a table on spectra."""
    graph = build_graph(table)
    assert graph.gap is not None
    fits: list[Gap] = []
    hook = graph.gap.register_forward_hook(lambda _, __, fit: fits.append(fit))
    counts = torch.from_numpy(spectra.counts).float()
    rows = len(counts)
    axis = (torch.full((rows,), spectra.offset_ev), torch.full((rows,), spectra.scale_ev))
    unknown = [torch.full((rows,), torch.nan) for _ in graph.further_inputs]
    values = graph(counts, *axis, *unknown)
    hook.remove()
    answers = dict(zip((item.name for item in graph.outputs), values, strict=True))
    (labels,) = (item.labels for item in graph.outputs if item.name == "gap_reason")
    return Found(
        fits[0].gap_ev.double().numpy(),
        fits[0].exponent.double().numpy(),
        [labels[int(code)] for code in answers["gap_reason"]],
        _chi2(table, counts, *axis),
    )


def _chi2(
    table: ZeroLossTable, counts: torch.Tensor, offset_ev: torch.Tensor, scale_ev: torch.Tensor
) -> Floats:
    """Of the median zero-loss curve against each spectrum [n], per channel of the trained part.

    A departure is measured by the noise of the channel and the band of the curve together.
    """
    energy, model, aligned = _matched(table, counts, offset_ev, scale_ev)
    first = FIRST_WIDTHS * 0.5 * sum(table.trained_width_ev)
    used = (energy >= first) & (energy <= table.match_ev[1])
    variance = table.noise.gain * model[:, 1] + table.noise.readout**2
    variance += (0.5 * (model[:, 2] - model[:, 0])) ** 2
    squares = ((aligned - model[:, 1]) ** 2 / variance)[:, used]
    chi2: Floats = squares.mean(1)
    return chi2


def _matched(
    table: ZeroLossTable, counts: torch.Tensor, offset_ev: torch.Tensor, scale_ev: torch.Tensor
) -> tuple[Floats, Floats, Floats]:
    """Energies [grid], zero-loss curves 16, 50, 84 % [n, 3, grid], aligned spectra [n, grid]."""
    peak = PeakFinder()(counts, offset_ev, scale_ev)
    grid = (table.first_ev, table.scale_ev, table.curves.shape[2])
    aligned = align(counts, peak.place, scale_ev, *grid)
    curves = Interpolated(table.log_counts, table.curves.exp())(peak.counts.clamp(min=1.0).log())
    model = curves * window_mean(aligned[:, table.match])[:, None, None]
    return table.energy_ev.numpy(), model.double().numpy(), aligned.double().numpy()


def with_interval(value: Floats, unit: str = "") -> str:
    """16, 50, 84 % as `median +up -down`."""
    low, middle, high = value
    return f"{middle:.2f} +{high - middle:.2f} -{middle - low:.2f}{unit}"


def measure(folder: Path, replicas: int, seed: int, plots: Path | None) -> None:
    """Print the rows of a folder in both modes."""
    numbered = [path for path in folder.glob("*.txt") if _NUMBER.search(path.name)]
    paths = sorted(numbered, key=lambda path: int(_NUMBER.findall(path.name)[0]))
    names = [path.stem for path in paths if "Vacuum" not in path.name]
    if not names:
        raise SystemExit(f"{folder} holds no sample spectra: expected files like `(14)_AXIS.txt`")
    sample = read_low_loss([path for path in paths if "Vacuum" not in path.name])
    vacuum = [path for path in paths if "Vacuum" in path.name]
    last = ""
    for mode in ("sample", "vacuum") if vacuum else ("sample",):
        began = time.perf_counter()
        prepared = prepare(sample)
        if mode == "sample":
            trained = train_zero_loss(prepared, "sample", replicas=replicas, seed=seed)
        else:
            peak = prepare(read_low_loss(vacuum))
            trained = train_zero_loss(
                peak, "vacuum", specimen=prepared, replicas=replicas, seed=seed
            )
        found = find_gaps(trained.table, sample)
        kept = int(trained.ensemble.kept.sum())
        print(f"{mode} mode, {replicas} replicas, {time.perf_counter() - began:.0f} s")
        for line in summary(trained):
            print(f"  {line}")
        print(f"  {'spectrum':<28}{'E_BG eV':<20}{'b':<20}{'kept':>5}{'chi2':>7}")
        for index, name in enumerate(names):
            reason = "" if found.reason[index] == "given" else f"  {found.reason[index]}"
            print(
                f"  {name[:27]:<28}{with_interval(found.gap_ev[index]):<20}"
                f"{with_interval(found.exponent[index]):<20}{kept:>5}{found.chi2[index]:>7.2f}"
                f"{reason}"
            )
        if plots is not None:
            plot(plots / f"{mode}.png", trained, sample, names, found)
        last = last or (
            f"{names[0]}: E_BG = {with_interval(found.gap_ev[0], ' eV')}, "
            f"b = {with_interval(found.exponent[0])}"
        )
    print(last)


def plot(
    path: Path, trained: TrainedZeroLoss, sample: LowLossSpectra, names: list[str], found: Found
) -> None:
    """What is left of every spectrum without its zero-loss peak, and the gap."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    table = trained.table
    counts = torch.from_numpy(sample.counts).float()
    axis = [torch.full((len(counts),), value) for value in (sample.offset_ev, sample.scale_ev)]
    energy, model, aligned = _matched(table, counts, *axis)
    shown = (energy > table.match_ev[0]) & (energy < _SHOWN_EV)
    rows = -(-len(names) // 2)
    figure, grid = plt.subplots(rows, 2, figsize=(11, 3 * rows), layout="constrained")
    for axes, index in zip(grid.flat, range(len(names)), strict=False):
        left = aligned[index] - model[index]
        axes.plot(energy[shown], aligned[index][shown], color="0.7", lw=0.8)
        axes.fill_between(energy[shown], left[0][shown], left[2][shown], alpha=0.3)
        axes.plot(energy[shown], left[1][shown])
        axes.axvspan(found.gap_ev[index, 0], found.gap_ev[index, 2], color="C1", alpha=0.2)
        axes.axvline(found.gap_ev[index, 1], color="C1", lw=0.8)
        axes.set_title(f"{names[index]}: {with_interval(found.gap_ev[index], ' eV')}")
        axes.set_ylim(-0.2 * left[1][shown].max(), 1.5 * left[1][shown].max())
        axes.set_xlabel("energy loss (eV)")
        axes.set_ylabel("counts per channel")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def spectra_of(scan: LowLossScan) -> LowLossSpectra:
    """A scan as training takes it."""
    instrument = scan.instrument
    counts = scan.counts.reshape(-1, instrument.channels).astype(np.float64)
    return LowLossSpectra(counts, np.zeros(len(counts)), instrument.offset_ev, instrument.scale_ev)


def simulate(mode: Mode, scans: int, replicas: int, first_seed: int) -> None:
    """Print how often the 68 % intervals hold the truth, over scans of six pixels each.

    Shares and distances are first taken over the pixels of a scan, which share their training.
    Where the true gap lies below the end of the matching window the spectrum gives no sign of it;
    such scans are counted apart.
    """
    held: list[list[float]] = []
    off: list[list[float]] = []
    hidden, claimed = 0, 0
    reasons: Counter[str] = Counter()
    for seed in range(first_seed, first_seed + scans):
        scan = random_scan(seed, (1, 6))
        material = scan.materials[0]
        spectra = spectra_of(scan)
        try:
            specimen = prepare(spectra)
            if mode == "sample":
                trained = train_zero_loss(specimen, "sample", replicas=replicas, seed=seed)
            else:
                beside = spectra_of(vacuum_scan(seed + 10_000, (1, 3), scan.instrument))
                trained = train_zero_loss(
                    prepare(beside), "vacuum", specimen=specimen, replicas=replicas, seed=seed
                )
            found = find_gaps(trained.table, spectra)
        except ValueError as error:
            reasons[f"refused: {error}"] += len(spectra.counts)
            continue
        if material.gap_ev < trained.table.match_ev[1]:
            hidden += 1
            claimed += Counter(found.reason)["given"] > 0
            continue
        reasons.update(found.reason)
        given = np.array([reason == "given" for reason in found.reason])
        if not given.any():
            continue
        pairs = ((found.gap_ev[given], material.gap_ev), (found.exponent[given], material.exponent))
        held.append([float(((v[:, 0] <= t) & (t <= v[:, 2])).mean()) for v, t in pairs])
        off.append([float(np.median(v[:, 1] - t)) for v, t in pairs])
    print(f"{mode} mode, simulated: {scans} scans of random instruments and materials")
    print(
        f"  {hidden} scans whose true gap lies below the end of the matching window: a gap is "
        f"given, and wrong, in {claimed} of them; all others:"
    )
    for reason, pixels in reasons.most_common():
        print(f"  {pixels:>4} pixels: {reason}")
    if not held:
        return
    for index, name in enumerate(("E_BG", "b")):
        share = np.array(held)[:, index]
        distance = np.array(off)[:, index]
        print(
            f"  {name}: the 68 % interval holds the truth in {100 * share.mean():.0f} +- "
            f"{100 * share.std() / np.sqrt(len(share)):.0f} %; median of found - true "
            f"{np.median(distance):+.2f}, half of all within {np.median(np.abs(distance)):.2f}"
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Print the rows of a folder, or of simulated spectra."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--replicas", type=int, help=f"default {REPLICAS}, simulated fewer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plots", type=Path, help="folder for a plot of each mode")
    parser.add_argument(
        "--simulated", type=int, default=0, metavar="N", help="scans with a known gap, per mode"
    )
    args = parser.parse_args(argv)
    if args.folder is None and not args.simulated:
        parser.error("expected a FOLDER or --simulated N")
    torch.set_num_threads(1)
    for mode in ("sample", "vacuum") if args.simulated else ():
        simulate(mode, args.simulated, args.replicas or SIMULATED_REPLICAS, args.seed)
    if args.folder is not None:
        measure(args.folder, args.replicas or REPLICAS, args.seed, args.plots)


if __name__ == "__main__":
    main()
