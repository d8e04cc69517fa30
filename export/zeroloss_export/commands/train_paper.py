"""``zeroloss-export train paper``: the paper's ensemble on its recipe, up to a package."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Final

from zeroloss.models.manifest import Buckets
from zeroloss_export.commands.cross_sections import add_option, cross_sections
from zeroloss_export.evaluation.metrics import balanced_threshold, scores
from zeroloss_export.evaluation.table2 import predict
from zeroloss_export.networks import ARCHITECTURES
from zeroloss_export.networks.ensemble import UNLIKE_THRESHOLD
from zeroloss_export.networks.paper import PAPER_ENSEMBLE
from zeroloss_export.package import load_member, write_package
from zeroloss_export.simulate.paper import PaperRecipe, PaperSimulator
from zeroloss_export.training.trainer import VALIDATION_SEED, LearnerSettings, Settings, Trainer

HELP = "Train the ensemble of Annys et al. (2 ViT, 3 U-Net) on its recipe and write its package."
EXAMPLES = """\
  zeroloss-export train paper --device cuda --minutes 600 --out models/paper
  zeroloss-export train paper --device cuda --spectra 20000000 --batch 512 --out models/paper
  zeroloss-export train paper --members paper_vit --spectra 500000 --out models/vit"""

_BUCKETS: Final = Buckets(cpu=4, gpu=(8, 32))
"""Half a billion operations a spectrum: larger batches gain nothing and need memory."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_option(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of the package")
    parser.add_argument(
        "--checkpoints", type=Path, help="folder to continue from (default: OUT-checkpoints)"
    )
    parser.add_argument(
        "--members", nargs="+", choices=sorted(ARCHITECTURES), default=list(PAPER_ENSEMBLE)
    )
    parser.add_argument("--seed", type=int, default=1, help="of the first member (default 1)")
    parser.add_argument(
        "--spectra", type=int, default=20_000_000, help="budget in spectra (default 20 million)"
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="budget in time")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--device", default="cpu", help="of torch, e.g. cuda (default cpu)")
    parser.add_argument("--bfloat16", action="store_true", help="for GPUs that are fast at it")
    parser.add_argument("--validation", type=int, default=4096, help="simulated validation spectra")
    parser.add_argument("--check-seconds", type=float, default=300.0)
    parser.add_argument("--name", default="paper", help="of the package (default paper)")
    parser.add_argument("--version", default="1.0.0", help="of the package (default 1.0.0)")


def run(options: argparse.Namespace) -> None:
    """Train or continue, then export; raises ValueError with one sentence.

    As in the paper: Adam, the sum of cross-entropy and macro soft F1, learning rate halved on
    plateaus. Not as there: all members learn from the same batches, the learning rate is one given
    number, and what is exported is the average of the weights.
    """
    table = cross_sections(options.cross_sections)
    recipe = PaperRecipe()
    settings = Settings(
        seed=options.seed,
        spectra=options.spectra,
        minutes=options.minutes,
        batch=options.batch,
        weight_decay=0.0,
        soft_f1_weight=1.0,
        schedule="plateau",
        bfloat16=options.bfloat16,
        device=options.device,
        check_seconds=options.check_seconds,
        validation=options.validation,
    )
    members = [
        LearnerSettings(architecture, options.seed + place, options.learning_rate)
        for place, architecture in enumerate(options.members)
    ]
    folder = options.checkpoints or options.out.with_name(f"{options.out.name}-checkpoints")
    paths = [folder / f"{member.architecture}-{member.seed}.pt" for member in members]
    trainer = Trainer(settings, members, recipe, table)
    there = [path.exists() for path in paths]
    if all(there):
        trainer.load(paths)
    elif any(there):
        raise ValueError(
            f"expected all of {len(paths)} checkpoints in {folder}, found {sum(there)}"
        )
    trainer.run(paths)
    trained = [load_member(path) for path in paths]
    simulator = PaperSimulator(table, recipe, VALIDATION_SEED, split="validation")
    validation = simulator.batch(options.validation)
    probability = predict([member.network for member in trained], validation)
    present, known = validation.present.numpy() > 0, validation.known.numpy() > 0
    threshold = max(UNLIKE_THRESHOLD, balanced_threshold(probability, present, known))
    result = scores(probability, present, threshold, known)
    manifest = write_package(
        options.out,
        trained,
        validation,
        name=options.name,
        version=options.version,
        threshold=round(threshold, 4),
        metrics={f"simulated_{key}": value for key, value in result.as_dict().items()},
        data="spectra simulated by Table 1 of Annys et al. (2023) from the project's own cross "
        "sections and formulas",
        buckets=_BUCKETS,
    )
    size_mb = (options.out / manifest.graph.file).stat().st_size / 1e6
    print(
        f"{options.out}: {len(trained)} members, {size_mb:.0f} MB, simulated F1 {result.f1:.3f} "
        f"at threshold {threshold:.2f}, largest |torch - ONNX Runtime| "
        f"{manifest.graph.max_error:.1e}; checkpoints: {folder}"
    )
