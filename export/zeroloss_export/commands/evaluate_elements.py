"""``zeroloss-export evaluate``: scores of element networks, and their model card."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from zeroloss.models import load_package
from zeroloss_export.commands.cross_sections import add_option, cross_sections
from zeroloss_export.evaluation.card import Card
from zeroloss_export.evaluation.judged import judge
from zeroloss_export.evaluation.measured import (
    Predictor,
    predict,
    read_spectra,
    read_truth,
    write_predictions,
)
from zeroloss_export.evaluation.metrics import balanced_threshold, scores
from zeroloss_export.evaluation.page import write_page
from zeroloss_export.evaluation.report import evaluate_elements
from zeroloss_export.evaluation.scans import pixel_shares, predict_scan, read_scan
from zeroloss_export.evaluation.session import about_package, session_predictor
from zeroloss_export.networks.ensemble import Ensemble
from zeroloss_export.package import load_member
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.training.trainer import VALIDATION_SEED

HELP = "Score a package or checkpoints on simulated and measured spectra, and write a model card."
EXAMPLES = """\
  zeroloss-export evaluate --package daemon/zeroloss/models/builtin/elements
  zeroloss-export evaluate --checkpoint a.pt --checkpoint b.pt --measured spectra.npz --csv p.csv
  zeroloss-export evaluate --package elements --scan linescan.hdf5 --card card.md
  zeroloss-export evaluate --package elements --simulated 20000 --card model-card"""

TEST_SEED: Final = VALIDATION_SEED + 1
_SCORED: Final = np.array([element != "C" for element in ELEMENTS])
"""Carbon is left out on measured spectra: films and contamination make its label doubtful."""


@dataclass(frozen=True, slots=True)
class _Judge:
    """What is evaluated, and what is said of it."""

    predictor: Predictor
    members: list[str]
    threshold: float | None = None
    temperature: float = 1.0
    bias: float = 0.0
    about: list[str] = field(default_factory=list)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_option(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--package", type=Path, help="folder of a model package")
    source.add_argument("--checkpoint", type=Path, action="append", help="may be repeated")
    parser.add_argument("--simulated", type=int, default=4096, help="simulated test spectra")
    parser.add_argument("--measured", type=Path, help=".npz of measured spectra")
    parser.add_argument("--index", type=Path, help="index.csv of --measured (default: beside it)")
    parser.add_argument("--scan", type=Path, action="append", default=[], help="spectrum image")
    parser.add_argument("--threshold", type=float, help="default: the package's, or balanced")
    parser.add_argument("--csv", type=Path, help="write probabilities of --measured: id,Be,...,Bi")
    parser.add_argument(
        "--card",
        type=Path,
        help="write the scores (.md, .json), or the full model card with plots (a folder)",
    )


def run(options: argparse.Namespace) -> None:
    """Score, print, and write the card; raises ValueError with one sentence."""
    source = _source(options.package, options.checkpoint)
    table = cross_sections(options.cross_sections)
    test = judge(source.predictor, table, Recipe(), TEST_SEED, options.simulated)
    judged = (test.probability, test.present)
    threshold = options.threshold or source.threshold
    if threshold is None:
        threshold = balanced_threshold(*judged, test.known)
    card = Card("Elements in core-loss spectra", source.members, threshold)
    card.scores["simulated"] = scores(*judged, threshold, test.known)
    if options.measured is not None:
        _score_measured(card, source.predictor, options)
    for path in options.scan:
        shares = pixel_shares(predict_scan(source.predictor, read_scan(path)), threshold)
        card.scans[path.name] = shares
    print(card.as_markdown(), end="")
    if options.card is None:
        return
    if options.card.suffix in {".md", ".json"}:
        card.write(options.card)
        return
    report = evaluate_elements(
        source.predictor,
        table,
        test,
        threshold,
        seed=TEST_SEED,
        temperature=source.temperature,
        bias=source.bias,
        say=print,
    )
    write_page(options.card, card, report, source.about)


def _score_measured(card: Card, predictor: Predictor, options: argparse.Namespace) -> None:
    spectra = read_spectra(options.measured)
    truth = read_truth(options.index or options.measured.with_name("index.csv"), spectra)
    probability = predict(predictor, spectra)
    if options.csv is not None:
        write_predictions(options.csv, spectra, probability)
    scored, true = probability[:, _SCORED], truth[:, _SCORED]
    balanced = balanced_threshold(scored, true)
    card.scores["measured"] = scores(scored, true, card.threshold)
    card.scores[f"measured, balanced at {balanced:.2f}"] = scores(scored, true, balanced)
    names = np.array(ELEMENTS)[_SCORED]
    for spectrum, row, wanted in zip(spectra, scored >= card.threshold, true, strict=True):
        if (row != wanted).any():
            missed, added = names[wanted & ~row], names[row & ~wanted]
            card.wrong.append(
                f"{spectrum.id}: missed {' '.join(missed) or '-'}; added {' '.join(added) or '-'}"
            )


def _source(package: Path | None, checkpoints: list[Path] | None) -> _Judge:
    if package is not None:
        loaded = load_package(package)
        manifest = loaded.manifest
        return _Judge(
            session_predictor(loaded),
            list(manifest.trained.members),
            manifest.output("probability").threshold,
            manifest.trained.metrics.get("temperature", 1.0),
            manifest.trained.metrics.get("bias", 0.0),
            about_package(loaded),
        )
    members = [load_member(path) for path in checkpoints or []]
    ensemble = Ensemble([member.network for member in members]).eval()
    about = ["checkpoints, run by torch on a CPU"]
    return _Judge(ensemble, [str(member) for member in members], about=about)
