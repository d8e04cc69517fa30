"""`zeroloss dielectric FILE...`: dielectric function and thickness of low-loss spectra."""

from __future__ import annotations

import argparse
import os
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zeroloss.recording.spectrum_files import SpectrumFile

    from ._dielectric import Region

HELP = "dielectric function, surface loss and thickness of low-loss spectra"
EXIT_INCOMPLETE = 1
MAX_WORKERS = 64
Ends = tuple[int | None, int | None]


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags: the files, the pixels, the model and its numbers, and where the answers go."""
    from zeroloss.recording.spectrum_files import add_axis_flags

    from ._model_flags import add_condition_flags, add_model_flags

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Run a low-loss model over spectra, with everything that it gives: the spectrum without\n"
        "its zero-loss peak, the single-scattering distribution, the dielectric function and the\n"
        "surface loss, each as the 16, 50 and 84 % curves of the model, and the thickness as t/λ\n"
        "and in nm with their errors. Where there is no answer the reason is told in words.\n\n"
        "FILE is whatever RosettaSciIO reads (.dm3 .dm4 .hspy .msa ...), text with two columns or\n"
        "rows of counts, or the folder of a recorded run. Every pixel is looked at by itself,\n"
        "unless --sum adds them up."
    )
    parser.epilog = (
        "examples:\n"
        "  zeroloss dielectric low_loss.dm4 --refractive-index 2.1\n"
        "  zeroloss dielectric low_loss.dm4 --package models/my_zero_loss --pixel 12 40\n"
        "  zeroloss dielectric map.hspy --region 0:32,10:20 --sum --out flake.csv\n"
        "  zeroloss dielectric recordings/20260101-120000-0a1b2c3d --out eps.hspy\n\n"
        ".npz   arrays [rows, columns, ...] by name, the energies of a spectrum in\n"
        "       NAME:energies_ev, reasons in words, and about: JSON of what made them\n"
        ".csv   a line per pixel and energy, and OUT-pixels.csv with a line per pixel\n"
        ".hspy  a signal per output, for HyperSpy\n\n"
        "Exit code 0: every pixel was answered; 1: some were not; 2: none was; 130: Ctrl-C."
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="file of spectra")
    where = parser.add_argument_group("pixels", "which of them (default: all)")
    chosen = where.add_mutually_exclusive_group()
    chosen.add_argument("--pixel", nargs=2, type=int, metavar=("ROW", "COLUMN"), help="one pixel")
    chosen.add_argument(
        "--region",
        type=region,
        metavar="R0:R1,C0:C1",
        help="rows R0 to R1 - 1 and columns C0 to C1 - 1; an end left out is that of the image",
    )
    where.add_argument("--sum", action="store_true", help="add the pixels up to one spectrum")
    model = parser.add_argument_group("model")
    model.add_argument(
        "--package",
        metavar="NAME|FOLDER",
        help="model package (default: the one that gives a dielectric function)",
    )
    model.add_argument(
        "--workers",
        type=int,
        default=min(os.cpu_count() or 1, MAX_WORKERS),
        metavar="N",
        help=f"threads that run the model (default: one per processor, at most {MAX_WORKERS})",
    )
    numbers = parser.add_argument_group("numbers", "that the spectra do not tell")
    numbers.add_argument(
        "--refractive-index",
        type=float,
        metavar="N",
        help="of the specimen, in visible light: the scale of the dielectric function",
    )
    add_condition_flags(numbers)
    add_model_flags(model, numbers=numbers, any_parameter="any parameter of the package")
    add_axis_flags(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help=".npz, .csv or .hspy (default: NAME-dielectric.npz in this folder)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite existing files")


def run(args: argparse.Namespace) -> int:
    """Look at every file; 0 when all pixels were answered, 1 when some were not, 2 when none."""
    from rich.console import Console

    from zeroloss.config import settings
    from zeroloss.models import InferenceError, ModelSession
    from zeroloss.recording import RecordingError
    from zeroloss.recording.spectrum_files import (
        SpectrumFileError,
        axis_given,
        read_measurement,
    )

    from ._dielectric import (
        DielectricError,
        analyse,
        find_package,
        given_to,
        prepare,
    )
    from ._dielectric_files import check_path, write
    from ._dielectric_summary import head_lines, summary
    from ._model_flags import conditions_given, progress_bar, with_conditions

    conditions = conditions_given(args)
    if not 1 <= args.workers <= MAX_WORKERS:
        raise DielectricError(f"--workers {args.workers}: expected 1 to {MAX_WORKERS}")
    if args.out is not None and len(args.files) > 1:
        raise DielectricError(f"one --out for {len(args.files)} files: give one file at a time")
    outs = [args.out or Path(f"{path.stem}-dielectric.npz") for path in args.files]
    if len(set(outs)) < len(outs):
        raise DielectricError("two files of the same name: give one at a time, with --out")
    for out in outs:
        check_path(out, force=args.force)
    axis = axis_given(args)
    package = find_package(args.package, args.models)
    given = given_to(package, settings(args.set), args.refractive_index)
    names = [item.name for item in package.manifest.outputs]
    session = ModelSession(package, args.provider, outputs=names)
    console = Console(highlight=False)
    answered = failed = 0
    for path, out in zip(args.files, outs, strict=True):
        try:
            file = with_conditions(read_measurement(path, axis=axis), conditions)
            start, analysis = prepare(session, file, given)
            chosen = _region(args, file)
            with progress_bar(console, "dielectric") as progress:
                task = progress.add_task(path.name, total=chosen.pixels)
                answers = analyse(
                    start,
                    analysis,
                    file,
                    chosen,
                    summed=args.sum,
                    workers=args.workers,
                    advance=partial(progress.advance, task),
                )
        except (SpectrumFileError, RecordingError, DielectricError, InferenceError) as error:
            print(f"zeroloss dielectric: {error}", file=sys.stderr)
            failed += 1
            continue
        for note in file.notes:
            console.print(f"note: {note}", style="yellow", markup=False)
        for line in head_lines(str(path), answers):
            console.print(line, markup=False, soft_wrap=True)
        console.print(summary(answers))
        for written in write(out, answers):
            console.print(f"written to {written}", markup=False)
        answered += int(answers.answered.sum())
        failed += int((~answers.answered).sum())
    return 0 if not failed else EXIT_INCOMPLETE if answered else 2


def region(text: str) -> tuple[Ends, Ends]:
    """Rows and columns from R0:R1,C0:C1; None for an end that is left out."""
    match = re.fullmatch(r"(\d*):(\d*),(\d*):(\d*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"expected R0:R1,C0:C1 like 0:32,10:20 or :,5:6, got {text!r}"
        )
    r0, r1, c0, c1 = (int(end) if end else None for end in match.groups())
    return (r0, r1), (c0, c1)


def _region(args: argparse.Namespace, file: SpectrumFile) -> Region:
    from ._dielectric import Region

    if args.pixel is not None:
        row, column = args.pixel
        return Region((row, row + 1), (column, column + 1))
    (r0, r1), (c0, c1) = args.region or ((None, None), (None, None))
    rows, columns = file.shape
    return Region(
        (0 if r0 is None else r0, rows if r1 is None else r1),
        (0 if c0 is None else c0, columns if c1 is None else c1),
    )
