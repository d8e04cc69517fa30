"""`zeroloss models`: which model packages there are, and whether they work here."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from zeroloss.models import ModelPackage, Provider

HELP = "list model packages, check that they work on this machine"

ACTIONS = ("list", "show", "check", "schema")
BROKEN = 1


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags: the action, names or folders, and where packages are looked for."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "list    the packages that are found, in a few lines each: what they take and give, when\n"
        "        they run, which file they are\n"
        "show    everything about packages: labels, outputs, parameters, what trained them\n"
        "check   load packages, run every batch size, and compare answers alone and in company;\n"
        "        the exit code is 1 when one is broken\n"
        "schema  the JSON schema of manifest.json"
    )
    parser.epilog = (
        "examples:\n"
        "  zeroloss models\n"
        "  zeroloss models list --folder my_models\n"
        "  zeroloss models show elements\n"
        "  zeroloss models check\n"
        "  zeroloss models check my_models/phases --provider cuda\n"
    )
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="list")
    parser.add_argument(
        "packages",
        nargs="*",
        metavar="NAME|FOLDER",
        help="packages to show or check (default: all)",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder with further packages; may be given again, a later one overrides by name",
    )
    parser.add_argument(
        "--provider",
        choices=("auto", "cpu", "cuda", "tensorrt"),
        default="auto",
        help="where check runs the models (default: auto)",
    )
    parser.add_argument(
        "--channels", type=int, default=2048, help="channels of the spectra of check (2048)"
    )


def run(args: argparse.Namespace) -> int:
    """List, show, check or print the schema; 1 when a checked package is broken."""
    from rich.console import Console

    from zeroloss.models import Manifest, ModelError

    if args.packages and args.action not in ("show", "check"):
        raise ModelError(
            f"models {args.action} takes no package names, got {' '.join(args.packages)}"
        )
    if args.action == "schema":
        print(json.dumps(Manifest.model_json_schema(), indent=2))
        return 0
    console = Console(highlight=False)
    if args.action == "list":
        return _list(console, args.folder)
    if args.action == "show":
        return _show(console, args)
    return _check(console, args)


def _list(console: Console, folders: list[Path]) -> int:
    from zeroloss.models import ModelStore

    from ._model_texts import heading, print_block, summary

    store = ModelStore(folders)
    for package in store.packages().values():
        print_block(console, heading(package), summary(package))
    for sentence in store.broken.values():
        console.print(f"broken: {sentence}", style="red", markup=False, soft_wrap=True)
    return 0


def _show(console: Console, args: argparse.Namespace) -> int:
    from zeroloss.models import ModelStore

    from ._model_texts import everything, heading, print_block

    store = ModelStore(args.folder)
    for name in args.packages or store.packages():
        package = store.find(name)
        print_block(console, heading(package), everything(package))
    return 0


def _check(console: Console, args: argparse.Namespace) -> int:
    from zeroloss.models import ModelError, ModelStore

    store = ModelStore(args.folder)
    broken: list[str] = []
    chosen: list[ModelPackage] = []
    if args.packages:
        for name in args.packages:
            try:
                chosen.append(store.find(name))
            except ModelError as error:
                broken.append(str(error))
    else:
        chosen = list(store.packages().values())
        broken = list(store.broken.values())
    for package in chosen:
        try:
            _check_one(console, package, args.provider, args.channels)
        except ModelError as error:
            broken.append(f"{package.name}: {error}")
    for sentence in broken:
        console.print(f"broken: {sentence}", style="red", markup=False, soft_wrap=True)
    return BROKEN if broken else 0


def _check_one(console: Console, package: ModelPackage, provider: Provider, channels: int) -> None:
    from zeroloss.models import ModelSession
    from zeroloss.models.check import try_out

    session = ModelSession(package, provider)
    trial = try_out(session, channels)
    manifest = package.manifest
    console.print(f"{package.name} {manifest.version}", style="bold", markup=False)
    lines = [
        f"folder    {package.folder}",
        f"sha256    {package.sha256}",
        f"runs on   {session.provider}, {session.precision}",
    ]
    lines += [
        f"bucket    {bucket} spectra of {channels} channels: {1e3 * seconds:.2f} ms, "
        f"{bucket / seconds:.0f} spectra/s"
        for bucket, seconds in trial.timings.items()
    ]
    graph = manifest.graph
    lines += [
        f"deviation {graph.max_error:.2g} from torch at export, limit {graph.error_limit:.2g}",
        f"company   other spectra of a batch change an answer by {trial.company:.2g}",
    ]
    for line in lines:
        console.print(f"  {line}", markup=False, soft_wrap=True)
