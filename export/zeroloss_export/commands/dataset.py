"""``zeroloss-export dataset``: simulated, labelled spectra in one HDF5 file."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import h5py
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from zeroloss_export.commands.cross_sections import add_option, cross_sections
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.simulate.dataset import Maker, Plan, assemble, settings_of
from zeroloss_export.simulate.dataset.plan import SHARE, hash_of
from zeroloss_export.simulate.dataset.shards import bytes_per_spectrum
from zeroloss_export.simulate.dataset.workers import make_shards
from zeroloss_export.simulate.simulators import RECIPES

HELP = "Write simulated spectra with labels, quantities and conditions to an HDF5 file."
EXAMPLES = """\
  zeroloss-export dataset --recipe paper --spectra 736000 --out paper.h5
  zeroloss-export dataset --recipe paper --spectra 736000 --processes 2 --out paper.h5
  zeroloss-export dataset --recipe measured --spectra 100000 --seed 7 --out measured.h5
  zeroloss-export dataset --recipe paper --single-element --spectra 8000 --out pairs.h5"""

_SPARE: Final = 1.1
_PLAN: Final = "plan.json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_option(parser)
    parser.add_argument("--out", type=Path, required=True, help="HDF5 file to write")
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="paper")
    parser.add_argument(
        "--spectra",
        type=int,
        default=736_000,
        help="all splits together (default 736000, as the paper has)",
    )
    parser.add_argument(
        "--single-element",
        action="store_true",
        help="spectra of one element each only, for pairs that are confused",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="of torch, e.g. cuda (default cpu)")
    parser.add_argument(
        "--processes", type=int, default=1, help="of one thread each (default 1; CPU only)"
    )


def run(options: argparse.Namespace) -> None:
    """Make what is missing and put it together; raises ValueError with one sentence."""
    began, cpu = time.perf_counter(), time.process_time()
    out: Path = options.out
    device = torch.device(options.device).type
    if options.processes < 1 or (options.processes > 1 and device != "cpu"):
        raise ValueError(
            f"expected one process, or several on the CPU, got {options.processes} on {device}"
        )
    table = cross_sections(options.cross_sections)
    plan = Plan(
        RECIPES[options.recipe],
        options.spectra,
        options.seed,
        options.single_element,
        hash_of(table),
        device,
    )
    if out.exists():
        if settings_of(out) != json.loads(plan.as_json()):
            raise ValueError(f"{out} holds another data set: give another --out or remove it")
        print(f"{out} is complete already")
        return
    parts = out.with_name(f"{out.name}.parts")
    there = _resume(parts, plan)
    _check_room(plan, table, out, sum(there.values()))
    _note(parts, plan)
    shards = [shard for shard in plan.shards() if shard.name not in there]
    new = sum(shard.rows for shard in shards)
    with _progress() as bar:
        task = bar.add_task("simulating", total=plan.spectra, completed=plan.spectra - new, rate="")
        made, first = 0, time.perf_counter()
        try:
            for rows in make_shards(Maker(plan, table), parts, shards, options.processes):
                made += rows
                rate = f"{made / (time.perf_counter() - first):.0f} spectra/s"
                bar.update(task, advance=rows, rate=rate)
        except KeyboardInterrupt:
            kept = [shard.rows for shard in plan.shards() if (parts / shard.name).exists()]
            raise ValueError(
                f"stopped: {sum(kept)} of {plan.spectra} spectra are in {parts}; the same command "
                "goes on from there"
            ) from None
        seconds = time.perf_counter() - first
        task = bar.add_task("writing", total=plan.spectra, rate="")
        assemble(out, parts, plan, _about(), lambda rows: bar.update(task, advance=rows))
    shutil.rmtree(parts)
    print(_summary(plan, out))
    if new:
        text = f"simulated {new} spectra in {seconds:.1f} s, {new / seconds:.0f} a second"
        if options.processes == 1:
            text += f" ({(time.process_time() - cpu) / new * 1e3:.3f} CPU-ms each with all else)"
        print(f"{text}; {time.perf_counter() - began:.1f} s in all")


def _resume(parts: Path, plan: Plan) -> dict[str, int]:
    """Sizes in bytes of the shards that lie in ``parts``, by name; ValueError if of another set."""
    held = {path.name: path.stat().st_size for path in parts.glob("*.h5")}
    noted = parts / _PLAN
    if (noted.exists() or held) and _parsed(noted) != json.loads(plan.as_json()):
        raise ValueError(f"{parts} holds parts of another data set: remove it or change --out")
    for unfinished in parts.glob("*.part"):
        unfinished.unlink()
    return held


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _note(parts: Path, plan: Plan) -> None:
    """Say whose shards will lie in ``parts``, before the first of them does."""
    parts.mkdir(parents=True, exist_ok=True)
    part = parts / f"{_PLAN}.part"
    part.write_text(plan.as_json(), encoding="utf-8")
    part.replace(parts / _PLAN)


def _check_room(plan: Plan, table: CrossSectionTable, out: Path, held_bytes: int) -> None:
    """ValueError if parts and file together have no room on the disk."""
    whole = bytes_per_spectrum(plan, table) * plan.spectra
    needed = _SPARE * 2 * whole - held_bytes
    folder = out.absolute().parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"expected {needed / 1e9:.1f} GB free in {folder} for {plan.spectra} spectra and "
            f"their parts, found {free / 1e9:.1f} GB: ask for fewer or write elsewhere"
        )


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        transient=True,
    )


def _about() -> dict[str, Any]:
    return {
        "software": f"zeroloss {metadata.version('zeroloss')}, torch {metadata.version('torch')}",
        "source": "recipe of A. Annys et al., Sci. Rep. 13, 13724 (2023), or widened from it; "
        "cross sections and formulas of zeroloss",
    }


def _summary(plan: Plan, out: Path) -> str:
    splits = []
    with h5py.File(out, "r") as file:
        for split in SHARE:
            if split in file:
                least = int(file[split]["present"][()].sum(0).min())
                splits.append(f"{split} {plan.rows(split)}, every element in {least} or more")
    size_mb = out.stat().st_size / 1e6
    return f"{out}: {plan.spectra} spectra, {size_mb:.0f} MB ({'; '.join(splits)})"
