"""``zeroloss-export package``: checkpoints of element networks to one model package."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Final

from zeroloss.models.manifest import Buckets
from zeroloss_export.commands.cross_sections import add_option, cross_sections
from zeroloss_export.evaluation.calibration import fit_joining, fit_margin
from zeroloss_export.evaluation.judged import Judged, judge_spectra
from zeroloss_export.evaluation.metrics import balanced_threshold, scores
from zeroloss_export.evaluation.per_element import CONTESTED
from zeroloss_export.evaluation.reliability import reliability
from zeroloss_export.networks.ensemble import UNLIKE_THRESHOLD, Ensemble, Joining
from zeroloss_export.package import load_member, write_package
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.simulate.spectra import LabelledSpectra, SpectrumSimulator
from zeroloss_export.training.trainer import VALIDATION_SEED

HELP = "Export checkpoints as one model package, calibrated, verified against torch."
EXAMPLES = """\
  zeroloss-export package mixer.pt convnext.pt --version 1.0 --out elements
  zeroloss-export package short.pt --name elements_fast --when-named --version 1.0 --out fast
  zeroloss-export package vit.pt unet.pt --name paper --temperature 1 --cpu-batch 4 \\
    --gpu-batches 8 32 --version 1.0 --out paper"""

_FIT: Final = "fit"
_MARGIN_SPECTRA: Final = 16384
"""Of short and as many of long ranges; few of them lie above the margin of a check."""
_SHORT_EV: Final = (70.0, 1000.0)
_LONG_EV: Final = (2000.0, 3100.0)
_AT_ONCE: Final = 128
_DATA: Final = "spectra simulated from the project's own cross sections, recipe 'measured'"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_option(parser)
    parser.add_argument("checkpoint", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True, help="folder of the package")
    parser.add_argument("--name", default="elements", help="of the package (default: elements)")
    parser.add_argument("--version", required=True)
    parser.add_argument(
        "--when-named", action="store_true", help="the package runs only where it is named"
    )
    buckets = Buckets()
    parser.add_argument(
        "--cpu-batch",
        type=int,
        default=buckets.cpu,
        help="the one batch size on a CPU (default: 8)",
    )
    parser.add_argument(
        "--gpu-batches",
        type=int,
        nargs="+",
        default=buckets.gpu,
        help="batch sizes on a GPU; the largest sets the memory (default: 8 32 128 512)",
    )
    parser.add_argument(
        "--caution",
        type=float,
        default=Joining().caution,
        help="standard deviations of the members' logits that are taken off their mean "
        f"(default {Joining().caution:g})",
    )
    parser.add_argument(
        "--check",
        type=Path,
        help="checkpoint of a network that mends the axis or tells that it is wrong: convnext_axis",
    )
    parser.add_argument(
        "--check-false",
        type=float,
        default=0.001,
        metavar="SHARE",
        help="share of good simulated spectra with an edge that it may call wrong (default 0.001)",
    )
    parser.add_argument(
        "--temperature",
        type=_calibration,
        default=None,
        metavar=f"T[,BIAS]|{_FIT}",
        help="the joined logit is divided by it, then the bias is added; fit: both on half of the "
        "simulated spectra (default)",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        help=f"default: precision = recall, simulated, but at least {UNLIKE_THRESHOLD}",
    )
    parser.add_argument("--note", default="", help="added to the manifest's account of the data")
    parser.add_argument("--simulated", type=int, default=4096, help="simulated validation spectra")


def run(options: argparse.Namespace) -> None:
    """Calibrate, export, verify and write; raises ValueError with one sentence."""
    if options.simulated < 2:
        raise ValueError(f"expected at least 2 simulated spectra, got {options.simulated}")
    members = [load_member(path) for path in options.checkpoint]
    table = cross_sections(options.cross_sections)
    simulator = SpectrumSimulator(table, Recipe(), VALIDATION_SEED)
    # What the temperature is fitted to says nothing about how well it fits.
    fitted = simulator.batch(options.simulated // 2)
    held_out = simulator.batch(options.simulated - options.simulated // 2)
    networks = [member.network for member in members]
    check, margin = None, None
    if options.check is not None:
        check = load_member(options.check)
        short, long = (_of_range(table, window_ev) for window_ev in (_SHORT_EV, _LONG_EV))
        margin = fit_margin(check.network, short, long, options.check_false)

    def ensemble(joining: Joining) -> Ensemble:
        return Ensemble(networks, joining, check.network if check else None, margin).eval()

    joining = Joining(options.caution, *(options.temperature or ()))
    if options.temperature is None:
        joining = fit_joining(ensemble(joining), fitted)
    # What the manifest says, to the last digit.
    joining = Joining(*(round(value, 4) for value in astuple(joining)))
    judged = judge_spectra(ensemble(joining), held_out)
    answers = (judged.probability, judged.present)
    threshold = options.threshold or max(
        UNLIKE_THRESHOLD, balanced_threshold(*answers, judged.known)
    )
    result = scores(*answers, threshold, judged.known)
    before = judged.without_calibration(joining.temperature, joining.bias)
    metrics = {f"simulated_{key}": value for key, value in result.as_dict().items()}
    metrics |= {
        **asdict(joining),
        "calibration_error": _calibration_error(judged),
        "calibration_error_before": _calibration_error(before),
        "simulated_unlike": float((judged.unlike >= UNLIKE_THRESHOLD).mean()),
    }
    if margin is not None:
        metrics |= {"check_margin": margin.base, "check_margin_per_kev": margin.per_kev}
    manifest = write_package(
        options.out,
        members,
        held_out,
        name=options.name,
        version=options.version,
        buckets=Buckets(cpu=options.cpu_batch, gpu=tuple(options.gpu_batches)),
        threshold=round(threshold, 4),
        joining=joining,
        check=check,
        margin=margin,
        metrics=metrics,
        data=_DATA + (f"; {options.note}" if options.note else ""),
        when_named=options.when_named,
    )
    size_mb = (options.out / manifest.graph.file).stat().st_size / 1e6
    print(
        f"{options.out}: {len(members)} members, {size_mb:.1f} MB, threshold {threshold:.2f}, "
        f"temperature {joining.temperature:.2f}, bias {joining.bias:.2f}, calibration error of "
        f"decisions above {CONTESTED:g} {metrics['calibration_error']:.3f} (before "
        f"{metrics['calibration_error_before']:.3f}), "
        f"largest |torch - ONNX Runtime| {manifest.graph.max_error:.1e}"
    )


def _of_range(
    table: CrossSectionTable, window_ev: tuple[float, float]
) -> Iterator[LabelledSpectra]:
    recipe = Recipe().changed(window_ev=window_ev)
    simulator = SpectrumSimulator(table, recipe, VALIDATION_SEED)
    for _ in range(_MARGIN_SPECTRA // _AT_ONCE):
        yield simulator.batch(_AT_ONCE)


def _calibration_error(judged: Judged) -> float:
    probability, truth = judged.decisions()
    least = min(CONTESTED, float(probability.max()))
    return reliability(probability, truth, bins=30, at_least=least).expected_error


def _calibration(text: str) -> tuple[float, float] | None:
    if text == _FIT:
        return None
    first, _, second = text.partition(",")
    try:
        temperature, bias = float(first), float(second or 0.0)
    except ValueError:
        temperature = bias = 0.0
    if not 0 < temperature < math.inf or not math.isfinite(bias):
        raise argparse.ArgumentTypeError(
            f"expected a number above 0, two as 1.2,0.5, or {_FIT!r}, got {text!r}"
        )
    return temperature, bias
