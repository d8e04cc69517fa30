"""``zeroloss-export train zlp``: from a vacuum scan or a specimen to a zero-loss package."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Final

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from zeroloss.models.manifest import Trained
from zeroloss.recording.spectrum_files import add_axis_flags, axis_given
from zeroloss_export.low_loss_package import write_zero_loss_package
from zeroloss_export.package_parts import trained_today
from zeroloss_export.training.zlp.ensemble import DEFAULT_REPLICAS
from zeroloss_export.training.zlp.levenberg import STEPS
from zeroloss_export.training.zlp.report import summary, write_report
from zeroloss_export.training.zlp.spectra import prepare, read_low_loss
from zeroloss_export.training.zlp.training import Boundaries, TrainedZeroLoss, train_zero_loss

HELP = "Train the replicas of a zero-loss peak and write a model package with its error band."
EXAMPLES = """\
  zeroloss-export train zlp recordings/20260101-vacuum --out models/zero_loss
  zeroloss-export train zlp vacuum.dm4 --specimen flake.dm4 --out models/zero_loss
  zeroloss-export train zlp flake.dm4 --mode sample --lines 8 --out models/zero_loss
  zeroloss-export train zlp flake.dm4 --mode sample --ruling 1.5 --gone 8 --out models/zero_loss
  zeroloss-export train zlp 60kV.dm4 80kV.dm4 120kV.dm4 --condition beam_kev=60,80,120 --out zl
  zeroloss serve --models models          (the daemon takes it at the start of its next run)"""

_DESCRIPTION: Final = (
    "Zero-loss peak of one instrument setting from Monte Carlo replicas of small networks (after "
    "Roest et al., Ultramicroscopy 222, 113202 (2021)): position, width and counts of the peak, "
    "t/λ, band gap and exponent, and the spectrum without its zero loss with the 68 % band."
)
_LONGEST: Final = 2000


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "source", type=Path, nargs="+", help="recording (its folder) or spectrum file"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the package to write")
    parser.add_argument(
        "--mode",
        choices=("vacuum", "sample"),
        default="vacuum",
        help="vacuum: all of it is zero loss; sample: only below the mixed region (default vacuum)",
    )
    parser.add_argument(
        "--specimen",
        type=Path,
        nargs="+",
        help="spectra that a vacuum peak is meant for: they tell where it may be matched",
    )
    parser.add_argument("--lines", type=int, help="first lines of the scan only")
    parser.add_argument("--clusters", type=int, help="of thickness (default: as few as needed)")
    parser.add_argument(
        "--condition",
        metavar="NAME[=V,V,...]",
        help="setting of the instrument as a further input; its value for every source, or "
        "beam_kev or dwell_s as the files tell it",
    )
    parser.add_argument(
        "--replicas",
        type=int,
        default=DEFAULT_REPLICAS,
        metavar="N",
        help="networks that are trained, whose spread is the error band "
        f"(default {DEFAULT_REPLICAS})",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of everything drawn; the same gives the same package on the same machine (default 0)",
    )
    expert = parser.add_argument_group("boundaries, eV above the zero-loss maximum")
    expert.add_argument("--ruling", type=float, help="up to where the zero loss rules")
    expert.add_argument("--gone", type=float, help="from where on it is gone")
    expert.add_argument(
        "--match",
        type=float,
        nargs=2,
        metavar=("FROM", "TO"),
        help="where the peak is matched to a spectrum (default: found in the spectra)",
    )
    expert.add_argument(
        "--gap-range",
        type=float,
        nargs=2,
        metavar=("FROM", "TO"),
        help="where a band gap is looked for (default: from the end of the matching window to "
        "where the zero loss is gone)",
    )
    expert.add_argument("--no-gap", action="store_true", help="no band-gap layers")
    parser.add_argument(
        "--peaks",
        type=int,
        default=3,
        choices=range(17),
        metavar="N",
        help="strongest loss peaks, at most 16 (default 3)",
    )
    parser.add_argument("--name", default="zero_loss", help="of the package (default zero_loss)")
    parser.add_argument("--version", default="1.0.0", help="of the package (default 1.0.0)")
    parser.add_argument("--report", type=Path, help="folder of the report (default: OUT-report)")
    add_axis_flags(parser)


def run(options: argparse.Namespace) -> None:
    """Train, write the package and the report; raises ValueError with one sentence."""
    clock = _Clock()
    axis = axis_given(options)
    condition, values = _condition(options.condition)
    read = read_low_loss(
        options.source, axis, lines=options.lines, condition=condition, values=values
    )
    spectra = prepare(read, options.clusters)
    specimen = None
    if options.specimen is not None:
        specimen = prepare(read_low_loss(options.specimen, axis), None)
    boundaries = Boundaries(
        options.ruling, options.gone, tuple(options.match) if options.match else None
    )
    clock.note("reading")
    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.completed:.0f} steps"))
    with Progress(*columns, TimeElapsedColumn(), transient=True) as bar:
        task = bar.add_task("", total=sum(STEPS))
        trained = train_zero_loss(
            spectra,
            options.mode,
            specimen=specimen,
            condition=condition,
            boundaries=boundaries,
            replicas=options.replicas,
            seed=options.seed,
            gap=not options.no_gap,
            gap_range_ev=tuple(options.gap_range) if options.gap_range else None,
            peaks=options.peaks,
            progress=lambda _: bar.advance(task),
        )
    clock.note("training")
    lines = summary(trained)
    manifest = write_zero_loss_package(
        options.out,
        trained.table,
        _account(trained, [path.name for path in options.source]),
        name=options.name,
        version=options.version,
        description=f"{_DESCRIPTION} Trained in {trained.mode} mode: {'; '.join(lines)}.",
    )
    clock.note("export and comparison")
    report = options.report or options.out.with_name(f"{options.out.name}-report")
    page = write_report(report, trained)
    clock.note("report")
    for line in lines:
        print(line)
    print(
        f"{options.out}: package {manifest.name} {manifest.version}, largest |torch - ONNX "
        f"Runtime| {manifest.graph.max_error:.1e}; report: {page}; "
        f"{clock.account()}"
    )


class _Clock:
    """Where the seconds go."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._stages: dict[str, float] = {}

    def note(self, stage: str) -> None:
        """What was done since the last note."""
        now = time.perf_counter()
        self._stages[stage] = now - self._last
        self._last = now

    def account(self) -> str:
        """The whole, and its parts."""
        parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self._stages.items())
        return f"{sum(self._stages.values()):.1f} s ({parts})"


def _condition(text: str | None) -> tuple[str | None, list[float] | None]:
    if text is None:
        return None, None
    name, given, numbers = text.partition("=")
    if not given:
        return name, None
    try:
        return name, [float(item) for item in numbers.split(",")]
    except ValueError:
        raise ValueError(f"expected --condition NAME=NUMBER,NUMBER, got {text!r}") from None


def _account(trained: TrainedZeroLoss, sources: list[str]) -> Trained:
    """What the manifest tells of the training."""
    ensemble = trained.ensemble
    return trained_today(
        data=f"{trained.mode}: {', '.join(sources)}"[:_LONGEST],
        spectra=trained.spectra.used,
        members=(f"{int(ensemble.kept.sum())} of {len(ensemble.kept)} replicas",),
        metrics={
            "chi2_per_point": round(ensemble.chi2, 4),
            "replicas_kept": float(ensemble.kept.sum()),
            "replicas_trained": float(len(ensemble.kept)),
        },
    )
