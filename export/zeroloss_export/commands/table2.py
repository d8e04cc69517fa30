"""``zeroloss-export table2``: trained networks beside those of the paper."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

import torch

from zeroloss_export.commands.cross_sections import add_option, cross_sections
from zeroloss_export.evaluation.measured import read_spectra, read_truth
from zeroloss_export.evaluation.table2 import (
    DIVISIONS,
    Budget,
    Column,
    Row,
    as_markdown,
    confused_pairs,
    cpu_milliseconds,
    measured_column,
    predict,
    predict_measured,
    simulated_column,
)
from zeroloss_export.package import load_member
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.physics.elements import ELEMENTS, FIRST_ATOMIC_NUMBER
from zeroloss_export.simulate.dataset import read_split, settings_of
from zeroloss_export.simulate.paper import PaperRecipe, PaperSimulator
from zeroloss_export.simulate.spectra import LabelledSpectra
from zeroloss_export.simulate.splits import Split
from zeroloss_export.training.trainer import VALIDATION_SEED, read_checkpoint

HELP = "Score networks as Tables 2 and 3 of Annys et al. do, beside the paper's own figures."
EXAMPLES = """\
  zeroloss-export table2 --networks vit.pt unet.pt --out table.md
  zeroloss-export table2 --networks mixer.pt convnext.pt --measured spectra.npz --out table.md
  zeroloss-export table2 --networks vit.pt --data paper.h5 --simulated 20000 --out table.md"""

_SPLITS: Final[tuple[Split, ...]] = ("validation", "test", "single")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_option(parser)
    parser.add_argument("--networks", type=Path, nargs="+", required=True, help="checkpoints")
    parser.add_argument("--out", type=Path, required=True, help="Markdown page to write")
    parser.add_argument("--measured", type=Path, help=".npz of measured spectra")
    parser.add_argument("--index", type=Path, help="index.csv of --measured (default: beside it)")
    parser.add_argument(
        "--data", type=Path, help="take the simulated spectra from this data set, not afresh"
    )
    parser.add_argument(
        "--simulated", type=int, default=4096, help="simulated test spectra (default 4096)"
    )


def run(options: argparse.Namespace) -> None:
    """Score, print and write the page; raises ValueError with one sentence."""
    if options.simulated < 1:
        raise ValueError(f"expected one simulated spectrum or more, got {options.simulated}")
    states = [read_checkpoint(path) for path in options.networks]
    members = [load_member(path) for path in options.networks]
    sets, source = _simulated(options)
    measured = truth = None
    if options.measured is not None:
        measured = read_spectra(options.measured)
        truth = read_truth(options.index or options.measured.with_name("index.csv"), measured)
    trained = [str(_budget(state)) for state in states]
    named = [
        (f"{member.architecture} seed {member.seed}", [member.network], budget)
        for member, budget in zip(members, trained, strict=True)
    ]
    if len(members) > 1:
        networks = [member.network for member in members]
        named.append((f"all {len(members)} together", networks, "as above"))
    rows = []
    for name, networks, budget in named:
        column: Column | None = None
        if measured is not None and truth is not None:
            column = measured_column(predict_measured(networks, measured), truth)
        row = Row(
            name,
            sum(part.numel() for network in networks for part in network.parameters()),
            simulated_column(
                predict(networks, sets["validation"]),
                sets["validation"],
                predict(networks, sets["test"]),
                sets["test"],
            ),
            column,
            cpu_milliseconds(networks, sets["test"]),
            budget,
        )
        rows.append(row)
        print(f"{name}: simulated F1 {row.simulated.scores.f1:.3f}", flush=True)
    pairs = confused_pairs(
        predict(named[-1][1], sets["single"]), sets["single"], rows[-1].simulated.threshold
    )
    about = [_about_simulated(source, sets), _about_time()]
    if measured is not None:
        about.append(
            f"measured: {len(measured)} spectra of {options.measured.name}, carbon left out, "
            f"threshold on a random half, scores on the other, means over {DIVISIONS} divisions"
        )
    options.out.write_text(as_markdown(rows, pairs, about), encoding="utf-8")
    print(options.out)


def _simulated(options: argparse.Namespace) -> tuple[dict[Split, LabelledSpectra], str]:
    if options.data is not None:
        seed = settings_of(options.data)["seed"]
        sets = {split: read_split(options.data, split, 0, options.simulated) for split in _SPLITS}
        return sets, f"{options.data.name}, seed {seed}"
    table = cross_sections(options.cross_sections)
    return {split: _drawn(table, split, options.simulated) for split in _SPLITS}, "drawn afresh"


def _drawn(table: CrossSectionTable, split: Split, count: int) -> LabelledSpectra:
    # No seed of a training: those are small.
    simulator = PaperSimulator(
        table, PaperRecipe(), VALIDATION_SEED + 10 + _SPLITS.index(split), split=split
    )
    query = FIRST_ATOMIC_NUMBER + torch.arange(count).remainder(len(ELEMENTS))
    return simulator.spectra_of(simulator.specimens(count, query)).spectra


def _budget(state: dict[str, Any]) -> Budget:
    seen = int(state["seen"])
    return Budget(
        # Checkpoints from before there was a choice do not name their recipe.
        state.get("recipe_name", "measured"),
        seen,
        seen - int(state.get("before", 0)),
        float(state["elapsed_s"]) / 60,
    )


def _about_simulated(source: str, sets: dict[Split, LabelledSpectra]) -> str:
    sizes = ", ".join(f"{len(spectra.counts)} {split}" for split, spectra in sets.items())
    return f"simulated by the paper's recipe: {sizes} spectra ({source}), no formula in two splits"


def _about_time() -> str:
    threads = torch.get_num_threads()
    return f"CPU time by torch in batches of 32, {threads} thread{'s' if threads > 1 else ''}"
