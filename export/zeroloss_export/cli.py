"""The command ``zeroloss-export``: train, evaluate, package."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from zeroloss.models import load_package
from zeroloss.models.manifest import Buckets
from zeroloss_export.commands import package_low_loss, specimen, train_elements, train_zlp
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
from zeroloss_export.package import (
    Member,
    load_member,
    predict_simulated,
    write_package,
)
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.simulate.spectra import LabelledSpectra, SpectrumSimulator
from zeroloss_export.training.trainer import VALIDATION_SEED

TEST_SEED = VALIDATION_SEED + 1
_DATA = "spectra simulated from the project's own cross sections, recipe 'measured'"
_SCORED = np.array([element != "C" for element in ELEMENTS])
"""Carbon is left out on measured spectra: films and contamination make its label doubtful."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="zeroloss-export",
        description="Train, evaluate and package networks, simulate (needs the extra 'export').",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_train(commands)
    _add_evaluate(commands)
    _add_package(commands)
    low_loss = _subcommand(
        commands,
        "low-loss",
        package_low_loss.HELP,
        package_low_loss.EXAMPLES,
        package_low_loss.run,
    )
    package_low_loss.configure(low_loss)
    simulated = _subcommand(commands, "specimen", specimen.HELP, specimen.EXAMPLES, specimen.run)
    specimen.configure(simulated)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    torch.set_num_threads(options.threads)
    run: Callable[[argparse.Namespace], None] = options.run
    try:
        run(options)
    except (ValueError, OSError) as error:
        print(f"zeroloss-export: {error}", file=sys.stderr)
        return 1
    return 0


def _subcommand(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    help_line: str,
    examples: str,
    run: Callable[[argparse.Namespace], None],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=help_line,
        description=help_line,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.set_defaults(run=run)
    return parser


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    kinds = commands.add_parser(
        "train", help="Train networks: elements on simulated spectra, zlp on measured ones."
    ).add_subparsers(dest="kind", required=True)
    zlp = _subcommand(kinds, "zlp", train_zlp.HELP, train_zlp.EXAMPLES, train_zlp.run)
    train_zlp.configure(zlp)
    elements = _subcommand(
        kinds, "elements", train_elements.HELP, train_elements.EXAMPLES, train_elements.run
    )
    train_elements.configure(elements)


def _add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = _subcommand(
        commands,
        "evaluate",
        "Score a package or checkpoints on simulated and measured spectra, and write a model card.",
        "  zeroloss-export evaluate --package daemon/zeroloss/models/builtin/elements\n"
        "  zeroloss-export evaluate --checkpoint a.pt --checkpoint b.pt --measured spectra.npz "
        "--csv p.csv\n"
        "  zeroloss-export evaluate --package elements --scan linescan.hdf5 --card card.md\n"
        "  zeroloss-export evaluate --package elements --simulated 20000 --card model-card",
        _evaluate,
    )
    add_option(evaluate)
    source = evaluate.add_mutually_exclusive_group(required=True)
    source.add_argument("--package", type=Path, help="folder of a model package")
    source.add_argument("--checkpoint", type=Path, action="append", help="may be repeated")
    evaluate.add_argument("--simulated", type=int, default=4096, help="simulated test spectra")
    evaluate.add_argument("--measured", type=Path, help=".npz of measured spectra")
    evaluate.add_argument("--index", type=Path, help="index.csv of --measured (default: beside it)")
    evaluate.add_argument("--scan", type=Path, action="append", default=[], help="spectrum image")
    evaluate.add_argument("--threshold", type=float, help="default: the package's, or balanced")
    evaluate.add_argument(
        "--csv", type=Path, help="write probabilities of --measured: id,Be,...,Bi"
    )
    evaluate.add_argument(
        "--card",
        type=Path,
        help="write the scores (.md, .json), or the full model card with plots (a folder)",
    )


def _evaluate(options: argparse.Namespace) -> None:
    predictor, members, threshold, about = _source(options.package, options.checkpoint)
    table = cross_sections(options.cross_sections)
    test = judge(predictor, table, Recipe(), TEST_SEED, options.simulated)
    judged = (test.probability, test.present)
    if options.threshold is not None:
        threshold = options.threshold
    elif threshold is None:
        threshold = balanced_threshold(*judged, test.known)
    card = Card("Elements in core-loss spectra", members, threshold)
    card.scores["simulated"] = scores(*judged, threshold, test.known)
    if options.measured is not None:
        _score_measured(card, predictor, options)
    for path in options.scan:
        shares = pixel_shares(predict_scan(predictor, read_scan(path)), threshold)
        card.scans[path.name] = shares
    print(card.as_markdown(), end="")
    if options.card is None:
        return
    if options.card.suffix in {".md", ".json"}:
        card.write(options.card)
        return
    report = evaluate_elements(predictor, table, test, threshold, seed=TEST_SEED, say=print)
    write_page(options.card, card, report, about)


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


def _source(
    package: Path | None, checkpoints: list[Path] | None
) -> tuple[Predictor, list[str], float | None, list[str]]:
    if package is not None:
        loaded = load_package(package)
        manifest = loaded.manifest
        threshold = manifest.output("probability").threshold
        members = list(manifest.trained.members)
        return session_predictor(loaded), members, threshold, about_package(loaded)
    networks = [load_member(path) for path in checkpoints or []]
    about = ["checkpoints, run by torch on a CPU"]
    return _ensemble(networks), [str(member) for member in networks], None, about


def _ensemble(members: Sequence[Member]) -> Ensemble:
    return Ensemble([member.network for member in members]).eval()


def _add_package(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    package = _subcommand(
        commands,
        "package",
        "Export checkpoints as one model package, verified against torch.",
        "  zeroloss-export package mixer.pt convnext.pt --version 1.0 --out elements\n"
        "  zeroloss-export package vit.pt unet.pt --name paper --cpu-batch 4 --gpu-batches 8 32 "
        "--version 1.0 --out paper",
        _package,
    )
    add_option(package)
    package.add_argument("checkpoint", type=Path, nargs="+")
    package.add_argument("--out", type=Path, required=True, help="folder of the package")
    package.add_argument("--name", default="elements", help="of the package (default: elements)")
    package.add_argument("--version", required=True)
    buckets = Buckets()
    package.add_argument(
        "--cpu-batch",
        type=int,
        default=buckets.cpu,
        help="the one batch size on a CPU (default: 8)",
    )
    package.add_argument(
        "--gpu-batches",
        type=int,
        nargs="+",
        default=buckets.gpu,
        help="batch sizes on a GPU; the largest sets the memory (default: 8 32 128 512)",
    )
    package.add_argument("--threshold", type=float, help="default: precision = recall, simulated")
    package.add_argument("--note", default="", help="added to the manifest's account of the data")
    package.add_argument("--simulated", type=int, default=4096, help="simulated validation spectra")


def _package(options: argparse.Namespace) -> None:
    members = [load_member(path) for path in options.checkpoint]
    simulated = _simulated(options.cross_sections, VALIDATION_SEED, options.simulated)
    probability = predict_simulated(_ensemble(members), simulated)
    present, known = simulated.present.numpy() > 0, simulated.known.numpy() > 0
    threshold = options.threshold or balanced_threshold(probability, present, known)
    result = scores(probability, present, threshold, known)
    manifest = write_package(
        options.out,
        members,
        simulated,
        name=options.name,
        version=options.version,
        buckets=Buckets(cpu=options.cpu_batch, gpu=tuple(options.gpu_batches)),
        threshold=round(threshold, 4),
        metrics={f"simulated_{key}": value for key, value in result.as_dict().items()},
        data=_DATA + (f"; {options.note}" if options.note else ""),
    )
    size_mb = (options.out / manifest.graph.file).stat().st_size / 1e6
    print(
        f"{options.out}: {len(members)} members, {size_mb:.1f} MB, threshold {threshold:.2f}, "
        f"largest |torch - ONNX Runtime| {manifest.graph.max_error:.1e}"
    )


def _simulated(cache: Path | None, seed: int, count: int) -> LabelledSpectra:
    return SpectrumSimulator(cross_sections(cache), Recipe(), seed).batch(count)


if __name__ == "__main__":
    raise SystemExit(main())
