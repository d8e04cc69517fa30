"""``zeroloss-export train elements``: networks on simulated spectra, several in one run."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeVar, get_args

import numpy as np
import torch
from torch import nn

from zeroloss_export.commands.cross_sections import add_option, cross_sections
from zeroloss_export.evaluation.measured import predict, read_spectra, read_truth
from zeroloss_export.evaluation.metrics import balanced_threshold, scores
from zeroloss_export.networks import ARCHITECTURES, build
from zeroloss_export.networks.ensemble import Ensemble
from zeroloss_export.networks.warm_start import start_from
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.simulate.simulators import RECIPES, AnyRecipe
from zeroloss_export.training.recovery import recover_members
from zeroloss_export.training.schedule import Fall
from zeroloss_export.training.trainer import Check, LearnerSettings, Settings, Trainer

HELP = "Train networks on simulated spectra; continues from --out if it exists."
EXAMPLES = """\
  zeroloss-export train elements --architecture mixer --seed 1 --out mixer.pt
  zeroloss-export train elements --architecture convnext --minutes 60 --out convnext.pt
  zeroloss-export train elements --architecture convnext --device cuda --batch 1024 --out c.pt
  zeroloss-export train elements --architecture mixer --start-from elements --out mixer2.pt
  zeroloss-export train elements --architecture mixer mixer_short --start-from elements \\
    --learning-rate 5e-4 1e-3 --every 2 1 --teachers 1 --out mixer.pt short.pt
  zeroloss-export train elements --recipe giant_resonance=0 --out ablation.pt
  zeroloss-export train elements --recipe paper --architecture paper_vit --out vit.pt"""

_SCORED: Final = np.array([element != "C" for element in ELEMENTS])
"""Carbon is left out on measured spectra: films and contamination make its label doubtful."""
_SCRATCH: Final = "nothing"
_T = TypeVar("_T")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_option(parser)
    run, member = Settings(), LearnerSettings()
    group = parser.add_argument_group(
        "members", "One value for all members of the run, or one for each of them."
    )
    group.add_argument("--out", type=Path, nargs="+", required=True, help="checkpoints to write")
    group.add_argument(
        "--architecture", choices=sorted(ARCHITECTURES), nargs="+", default=[member.architecture]
    )
    group.add_argument("--seed", type=int, nargs="+", default=[member.seed])
    group.add_argument("--learning-rate", type=float, nargs="+", default=[member.learning_rate])
    group.add_argument(
        "--start-from",
        nargs="+",
        default=[_SCRATCH],
        metavar="CHECKPOINT|PACKAGE",
        help=f"weights to go on from, of the same kind of network, or {_SCRATCH!r}",
    )
    group.add_argument(
        "--every", type=int, nargs="+", default=[member.every], help="learn from every n-th batch"
    )
    parser.add_argument(
        "--teachers", type=int, default=0, help="the first so many members teach the others"
    )
    parser.add_argument("--teacher", type=Path, help="package whose answers teach all members")
    parser.add_argument("--taught-share", type=float, default=run.taught_share)
    parser.add_argument("--spectra", type=int, default=run.spectra, help="budget in spectra")
    parser.add_argument("--minutes", type=float, default=math.inf, help="budget in time")
    parser.add_argument("--batch", type=int, default=run.batch)
    parser.add_argument("--warmup-spectra", type=int, default=run.warmup_spectra)
    parser.add_argument("--schedule", choices=get_args(Fall), default=run.schedule)
    parser.add_argument("--device", default=run.device, help="of torch, e.g. cuda (default cpu)")
    parser.add_argument(
        "--float32", action="store_true", help="no bfloat16, even where the processor is fast at it"
    )
    parser.add_argument(
        "--recipe",
        action="append",
        default=[],
        metavar="NAME|FIELD=NUMBER[,NUMBER]",
        help=f"recipe of the simulation, {' or '.join(RECIPES)} (default measured), or a field of "
        "it to change; may be repeated",
    )
    parser.add_argument("--measured", type=Path, help=".npz of measured spectra, only scored")
    parser.add_argument("--index", type=Path, help="index.csv of --measured (default: beside it)")
    parser.add_argument(
        "--validation", type=int, default=run.validation, help="simulated validation spectra"
    )
    parser.add_argument("--log-seconds", type=float, default=run.log_seconds)
    parser.add_argument("--check-seconds", type=float, default=run.check_seconds)


def run(options: argparse.Namespace) -> None:
    """Train, or continue where all of --out exist."""
    members = _members(options)
    settings = Settings(
        seed=members[0].seed,
        spectra=options.spectra,
        minutes=options.minutes,
        batch=options.batch,
        warmup_spectra=options.warmup_spectra,
        schedule=options.schedule,
        taught_share=options.taught_share,
        bfloat16=not options.float32 and _bfloat16_is_fast(options.device),
        device=options.device,
        log_seconds=options.log_seconds,
        check_seconds=options.check_seconds,
        validation=options.validation,
    )
    recipe = _recipe(options.recipe)
    table = cross_sections(options.cross_sections)
    trainer = Trainer(settings, members, recipe, table, _teachers(options.teacher))
    there = [path.exists() for path in options.out]
    if all(there):
        trainer.load(options.out)
    elif any(there):
        raise ValueError(f"expected all of --out to exist or none, {sum(there)} of them do")
    trainer.run(options.out, _measured_check(options.measured, options.index))


def _members(options: argparse.Namespace) -> list[LearnerSettings]:
    count = len(options.out)
    columns = zip(
        _each(options.architecture, count, "--architecture"),
        _each(options.seed, count, "--seed"),
        _each(options.learning_rate, count, "--learning-rate"),
        _each(options.every, count, "--every"),
        _each(options.start_from, count, "--start-from"),
        strict=True,
    )
    return [
        LearnerSettings(
            architecture,
            seed,
            learning_rate,
            every,
            teaches=place < options.teachers,
            start="" if start == _SCRATCH else start,
        )
        for place, (architecture, seed, learning_rate, every, start) in enumerate(columns)
    ]


def _each(values: Sequence[_T], count: int, name: str) -> list[_T]:
    if len(values) not in (1, count):
        raise ValueError(f"expected {name} once or {count} times, as --out, got {len(values)}")
    return list(values) * (count // len(values))


def _bfloat16_is_fast(device: str) -> bool:
    """Without AVX-512 a CPU has no such arithmetic: emulated, it takes ten times as long."""
    return device != "cpu" or torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def _teachers(package: Path | None) -> list[nn.Module]:
    if package is None:
        return []
    teachers = []
    for member in recover_members(package):
        network = build(member.architecture)
        start_from(network, member.weights)
        teachers.append(network)
    return teachers


def _measured_check(path: Path | None, index: Path | None) -> Check | None:
    if path is None:
        return None
    spectra = read_spectra(path)
    truth = read_truth(index or path.with_name("index.csv"), spectra)[:, _SCORED]

    def check(networks: Sequence[nn.Module]) -> dict[str, float]:
        probability = predict(Ensemble(networks).eval(), spectra)[:, _SCORED]
        threshold = balanced_threshold(probability, truth)
        return scores(probability, truth, threshold).as_dict() | {"threshold": threshold}

    return check


def _recipe(items: Sequence[str]) -> AnyRecipe:
    """The recipe named last, with the fields that are given."""
    names = ["measured", *(item for item in items if "=" not in item)]
    if names[-1] not in RECIPES:
        raise ValueError(
            f"expected --recipe {' or '.join(RECIPES)} or FIELD=NUMBER[,NUMBER], got {names[-1]!r}"
        )
    fields = dict(_field(item) for item in items if "=" in item)
    return RECIPES[names[-1]].changed(**fields)


def _field(item: str) -> tuple[str, object]:
    name, _, text = item.partition("=")
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"expected --recipe FIELD=NUMBER[,NUMBER], got {item!r}") from None
    return name, values[0] if len(values) == 1 else values
