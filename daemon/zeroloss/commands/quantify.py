"""`zeroloss quantify FILE`: how much of each element is in core-loss spectra."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path

HELP = "atomic percent and atoms per nm² of elements in core-loss spectra"
DEFAULT_MODEL = "quantify"
IDENTIFYING_MODEL = "elements"
AUTO = "auto"
AS_IS = "as-is"
EXIT_INCOMPLETE = 1
MAX_WORKERS = 64


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags: the spectra, the elements, the microscope, and where the answers go."""
    from zeroloss.recording.spectrum_files import add_axis_flags

    from ._model_flags import add_condition_flags, add_model_flags

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Fit the edges of chosen elements in core-loss spectra, pixel by pixel and in their sum,\n"
        "and tell how much of each there is: atomic percent of the chosen elements, and with a\n"
        "low loss and the ratio of the exposures atoms per nm². Errors are one standard\n"
        "deviation; that of the cross sections themselves is not in them.\n\n"
        "FILE is whatever RosettaSciIO reads (.dm3 .dm4 .hspy .msa ...), text with two columns or\n"
        "rows of counts, or the folder of a recorded run. Core and low loss in two files are\n"
        "given as FILE and --low-loss. Where there is a low loss, its zero-loss peak corrects the\n"
        "energy axis and plural scattering is taken into the fit."
    )
    parser.epilog = (
        "examples:\n"
        "  zeroloss quantify scan.dm4 --elements Ti,O\n"
        "  zeroloss quantify core.dm3 --low-loss low.dm3 --elements B,N --ratio N/B \\\n"
        "      --beam-kev 300 --convergence-mrad 0.2 --collection-mrad 4.12\n"
        "  zeroloss quantify core.hspy --low-loss low.hspy --exposure-ratio 100 --map maps.hspy\n"
        "  zeroloss quantify recordings/20260101-120000-0a1b2c3d --elements Mn,O --csv out.csv\n\n"
        "Exit code 0: every pixel was answered, with values or the reason why there are none;\n"
        "1: some were not; 2: none has values; 130: Ctrl-C."
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="core-loss spectra")
    parser.add_argument(
        "--elements",
        type=elements,
        metavar="auto|Ti,O",
        help="which, at most as many as the model takes; auto (the default) takes what the model "
        "that identifies elements sees in the sum of the pixels or in at least 1 %% of them",
    )
    parser.add_argument("--low-loss", type=Path, metavar="FILE", help="low loss of the same pixels")
    parser.add_argument(
        "--ratio",
        action="append",
        default=[],
        metavar="Mn/O",
        help="tell this ratio of atoms too, may be repeated",
    )
    parser.add_argument(
        "--axis",
        choices=(AUTO, AS_IS),
        default=AUTO,
        help="auto (the default) mends the energy axis, and says so, where the edges of these "
        "elements begin more than 4 eV from where they should and the fit is better for it",
    )
    numbers = parser.add_argument_group("numbers", "that the spectra do not tell")
    numbers.add_argument(
        "--exposure-ratio",
        type=float,
        metavar="R",
        help="exposure of the core loss over that of the low loss: areal densities need it",
    )
    add_condition_flags(numbers)
    model = parser.add_argument_group("model")
    model.add_argument(
        "--package",
        default=DEFAULT_MODEL,
        metavar="NAME|FOLDER",
        help=f"model package (default: {DEFAULT_MODEL})",
    )
    add_model_flags(
        model,
        numbers=numbers,
        any_parameter="any parameter of the package; --elements and --exposure-ratio go over it",
    )
    model.add_argument(
        "--workers",
        type=int,
        default=min(os.cpu_count() or 1, MAX_WORKERS),
        metavar="N",
        help=f"threads that run the model (default: one per processor, at most {MAX_WORKERS})",
    )
    add_axis_flags(parser)
    parser.add_argument("--csv", type=Path, metavar="OUT", help="write a line per pixel")
    parser.add_argument("--map", type=Path, metavar="OUT.hspy", help="write maps for HyperSpy")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")


def run(args: argparse.Namespace) -> int:
    """Quantify the file and tell; the exit code is that of the help text."""
    import numpy as np
    from rich.console import Console

    from zeroloss.config import settings
    from zeroloss.models import ModelStore
    from zeroloss.recording.spectrum_files import axis_given

    from ._model_flags import conditions_given, progress_bar, settings_of, with_conditions
    from ._quantification import (
        DENSITY,
        EXPOSURE_RATIO,
        FRACTION,
        SELECTION,
        Quantifier,
        QuantifyError,
        check_elements,
        check_microscope,
        find_package,
        read,
    )
    from ._quantification_table import (
        alone,
        ratio_of_sum,
        ratios_asked,
        table,
        why_none,
        write_csv,
        write_map,
    )

    conditions = conditions_given(args)
    if not 1 <= args.workers <= MAX_WORKERS:
        raise QuantifyError(f"--workers {args.workers}: expected 1 to {MAX_WORKERS}")
    _check_outs(args)
    axis = axis_given(args)
    store = ModelStore(args.models)
    package = find_package(args.package, store)
    given = settings_of(package.name, settings(args.set))
    if args.exposure_ratio is not None:
        given[EXPOSURE_RATIO] = args.exposure_ratio
    if args.elements is not None:
        given.pop(SELECTION, None)
    # What cannot be asked for is told before a large file is read.
    check_elements(package, args.elements or (), given)
    labels = given.pop(SELECTION, ())
    chosen = args.elements or (labels if isinstance(labels, tuple) else ())
    if chosen:
        ratios_asked(args.ratio, chosen)
    file = with_conditions(read(args.file, args.low_loss, axis), conditions)
    check_microscope(package, file, given)
    quantifier = Quantifier(file, package, store, args.provider)
    console = Console(highlight=False)
    for note in file.notes:
        console.print(f"note: {note}", style="yellow", markup=False)
    if not chosen or args.axis == AUTO:
        identifying = store.get(IDENTIFYING_MODEL)
    if not chosen:
        with progress_bar(console, "identifying") as progress:
            task = progress.add_task("identifying", total=quantifier.looked_at())
            found = quantifier.find(identifying, partial(progress.advance, task))
        console.print(found.note, markup=False, soft_wrap=True)
        chosen = found.elements
    pairs = ratios_asked(args.ratio, chosen)
    if args.axis == AUTO:
        mended = quantifier.mend_axis(identifying, chosen, given)
        if mended is not None:
            console.print(f"note: {mended}", style="yellow", markup=False, soft_wrap=True)
    analysis = quantifier.choose(chosen, given)
    with progress_bar(console, "quantifying") as progress:
        task = progress.add_task("quantifying", total=file.pixels)
        answers = quantifier.run(analysis, args.workers, partial(progress.advance, task))
    if not np.isfinite(answers.pixels[FRACTION]).any():
        raise QuantifyError(f"{args.file.name}: no pixel was quantified: {why_none(answers)}")
    info = analysis.info
    console.print(
        f"{args.file}: {file.pixels} pixels, {analysis.range.name}"
        + ("" if analysis.low_loss is None else f" with {analysis.low_loss.name} beside")
        + f"; {info.name} {info.version} {info.sha256[:12]} on {info.provider}",
        markup=False,
        soft_wrap=True,
    )
    console.print(table(answers))
    told = alone(answers)
    if told is not None:
        console.print(f"note: {told}", style="yellow", markup=False, soft_wrap=True)
    for above, below in pairs:
        value = ratio_of_sum(answers, above, below)
        console.print(f"{above}/{below} of the sum: {value}", soft_wrap=True)
    if DENSITY in answers.pixels and not np.isfinite(answers.pixels[DENSITY]).any():
        reasons = ", ".join(sorted(set(answers.reasons(DENSITY))))
        console.print(f"note: no areal densities: {reasons}", style="yellow", markup=False)
    if args.csv is not None:
        write_csv(args.csv, answers, file.shape[1])
        console.print(f"written to {args.csv}", markup=False)
    if args.map is not None:
        write_map(args.map, answers, file.shape)
        console.print(f"written to {args.map}", markup=False)
    unanswered = int((~answers.answered).sum())
    if unanswered:
        print(
            f"zeroloss quantify: {unanswered} of {file.pixels} pixels have no answer",
            file=sys.stderr,
        )
    return EXIT_INCOMPLETE if unanswered else 0


def elements(text: str) -> tuple[str, ...]:
    """Symbols of Ti,O; none of auto."""
    if text == AUTO:
        return ()
    symbols = tuple(item.strip() for item in text.split(","))
    if not all(item.isalpha() for item in symbols):
        raise argparse.ArgumentTypeError(f"expected auto, or symbols like Ti,O, got {text!r}")
    return symbols


def _check_outs(args: argparse.Namespace) -> None:
    from ._quantification import QuantifyError

    if args.map is not None and args.map.suffix != ".hspy":
        raise QuantifyError(f"--map {args.map}: expected a file name ending in .hspy")
    for flag, path in (("--csv", args.csv), ("--map", args.map)):
        if path is None:
            continue
        if not path.parent.is_dir():
            raise QuantifyError(f"{flag} {path}: there is no folder {path.parent}")
        if path.is_file() and not args.force:
            raise QuantifyError(f"{flag} {path} exists: name another or add --force")
