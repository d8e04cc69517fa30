"""What the commands share that run models over files: flags, conditions, progress."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from zeroloss.recording.spectrum_files import SpectrumFile

Value = TypeVar("Value")

CONDITION_FLAGS = (
    ("--beam-kev", "KEV", "energy of the beam (default: what the file says)"),
    (
        "--convergence-mrad",
        "MRAD",
        "semi-angle of the probe, 0: parallel (default: what the file says; there 0 is not known)",
    ),
    ("--collection-mrad", "MRAD", "semi-angle of the spectrometer (default: what the file says)"),
)
MAY_BE_ZERO = ("--convergence-mrad",)


class GivenError(ValueError):
    """A flag whose value cannot be right: one sentence."""


def add_model_flags(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
    *,
    numbers: argparse.ArgumentParser | argparse._ArgumentGroup | None = None,
    any_parameter: str,
) -> None:
    """--models, --provider and --set; the last is put into `numbers` where that is given."""
    parser.add_argument(
        "--models",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder with further model packages",
    )
    parser.add_argument(
        "--provider",
        choices=("cpu", "cuda", "tensorrt", "auto"),
        default="cpu",
        help="where the model runs (default: cpu)",
    )
    (numbers or parser).add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PACKAGE.NAME=VALUE",
        help=any_parameter,
    )


def add_condition_flags(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """--beam-kev, --convergence-mrad and --collection-mrad."""
    for flag, unit, what in CONDITION_FLAGS:
        parser.add_argument(flag, type=float, metavar=unit, help=what)


def conditions_given(args: argparse.Namespace) -> dict[str, float | None]:
    """The values of `add_condition_flags` by name; `GivenError` for one that cannot be."""
    given: dict[str, float | None] = {}
    for flag, _, _ in CONDITION_FLAGS:
        name = flag.removeprefix("--").replace("-", "_")
        value = given[name] = getattr(args, name)
        if value is None or 0 < value < math.inf:
            continue
        if flag not in MAY_BE_ZERO:
            raise GivenError(f"{flag} {value:g}: expected a number above 0")
        if value != 0:
            raise GivenError(f"{flag} {value:g}: expected 0 or a number above it")
    return given


def with_conditions(file: SpectrumFile, given: Mapping[str, float | None]) -> SpectrumFile:
    """The file with these numbers of the microscope, which go over its own; notes say where."""
    notes = list(file.notes)
    for name, value in given.items():
        told = getattr(file, name)
        if value is not None and told is not None and not math.isclose(told, value):
            notes.append(f"{name} = {value:g} as given; the file says {told:g}")
    known = {name: value for name, value in given.items() if value is not None}
    return replace(file, notes=tuple(notes), **known)  # type: ignore[arg-type]


def settings_of(package: str, settings: Mapping[str, Mapping[str, Value]]) -> dict[str, Value]:
    """What --set says of that package; `GivenError` where it names another one."""
    foreign = set(settings) - {package}
    if foreign:
        name = min(foreign)
        raise GivenError(f"--set {name}.{min(settings[name])}: the model that runs is {package}")
    return dict(settings.get(package, {}))


def progress_bar(console: Console, what: str) -> Progress:
    """A bar over spectra that leaves nothing behind; nothing at all where nobody watches."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    return Progress(
        what,
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
