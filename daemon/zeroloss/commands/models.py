"""`zeroloss models`: which model packages there are, and whether they work here."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from zeroloss.models import ModelPackage, Provider
    from zeroloss.models.manifest import Output, Parameter, Takes

HELP = "list model packages, check that they work on this machine"

ACTIONS = ("list", "check", "schema")
BROKEN = 1


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags: the action, names or folders, and where packages are looked for."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "list    the packages that are found: what they take, what they give, what trained them\n"
        "check   load packages, run every batch size, and compare answers alone and in company;\n"
        "        the exit code is 1 when one is broken\n"
        "schema  the JSON schema of manifest.json"
    )
    parser.epilog = (
        "examples:\n"
        "  zeroloss models\n"
        "  zeroloss models list --folder my_models\n"
        "  zeroloss models check\n"
        "  zeroloss models check my_models/phases --provider cuda\n"
    )
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="list")
    parser.add_argument(
        "packages", nargs="*", metavar="NAME|FOLDER", help="packages to check (default: all)"
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
    """List, check or print the schema; 1 when a checked package is broken."""
    from rich.console import Console

    from zeroloss.models import Manifest, ModelError

    if args.packages and args.action != "check":
        raise ModelError(
            f"models {args.action} takes no package names, got {' '.join(args.packages)}"
        )
    if args.action == "schema":
        print(json.dumps(Manifest.model_json_schema(), indent=2))
        return 0
    console = Console(highlight=False)
    if args.action == "list":
        return _list(console, args.folder)
    return _check(console, args)


def _list(console: Console, folders: list[Path]) -> int:
    from rich.table import Table
    from rich.text import Text

    from zeroloss.models import ModelStore

    store = ModelStore(folders)
    table = Table(show_lines=True)
    for heading in ("package", "takes", "gives", "trained"):
        table.add_column(heading, overflow="fold")
    for package in store.packages().values():
        table.add_row(*map(Text, _row(package)))
    console.print(table)
    for sentence in store.broken.values():
        console.print(f"broken: {sentence}", style="red", markup=False, soft_wrap=True)
    return 0


def _row(package: ModelPackage) -> tuple[str, ...]:
    from rich.filesize import decimal

    from zeroloss.models.parameters import selecting

    manifest = package.manifest
    gives = [_gives(item) for item in manifest.outputs]
    size = decimal(package.graph_bytes)
    what = [f"{manifest.name} {manifest.version}", package.sha256[:12], size]
    what += ["runs only when named"] if manifest.when_named else []
    what += ["stands in for a trained one"] if manifest.stands_in else []
    what += [f"needs {selecting(manifest)}"] if manifest.takes.selection is not None else []
    trained = manifest.trained
    metrics = [f"{name} {value:g}" for name, value in trained.metrics.items()]
    made = [f"{trained.date}, {trained.software}", trained.data, f"{trained.spectra} spectra"]
    return (
        "\n".join(what),
        "\n".join([_takes(manifest.takes), *map(_parameter, manifest.parameters)]),
        "\n".join(gives),
        "\n".join(made + metrics),
    )


def _takes(takes: Takes) -> str:
    begin, end = takes.window_ev
    lines = [takes.modality, f"{begin:g} to {end:g} eV"]
    if takes.scale_ev is not None:
        low, high = takes.scale_ev
        lines.append(f"{low:g} to {high:g} eV per channel")
    if takes.signed_counts:
        lines.append("negative counts too")
    if takes.low_loss:
        lines.append("uses the low loss of the same pixel")
    if takes.selection is not None:
        labels = " ".join(takes.selection.labels)
        lines.append(f"{takes.selection.name}, up to {takes.selection.slots} of: {labels}")
    return "\n".join(lines)


def _parameter(item: Parameter) -> str:
    source = "set by you" if item.source == "given" else f"{item.source} of the run"
    default = "no default" if item.default is None else f"default {item.default:g}"
    return f"{item.name} {item.low:g} to {item.high:g} {item.unit}".rstrip() + (
        f", {source}, {default}: {item.description}"
    )


def _gives(output: Output) -> str:
    shape = "one per label chosen," if output.selected else list(output.shape)
    text = f"{output.name} {shape} {output.unit}".rstrip(" ,")
    if output.kind == "label":
        return f"{text}: {', '.join(output.labels)}"
    if output.kind == "spectrum":
        text += ", spectrum"
    if output.shifts_axis:
        text += ", corrects the axis of other ranges"
    if output.reason is not None:
        text += f", or {output.reason}"
    return text


def _check(console: Console, args: argparse.Namespace) -> int:
    from zeroloss.models import ModelError, ModelStore, load_package

    store = ModelStore(args.folder)
    broken: list[str] = []
    chosen: list[ModelPackage] = []
    if args.packages:
        for name in args.packages:
            try:
                is_folder = name not in store.packages() and Path(name).is_dir()
                chosen.append(load_package(Path(name)) if is_folder else store.get(name))
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
