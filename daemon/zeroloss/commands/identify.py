"""`zeroloss identify FILE...`: which elements are in these spectra, without a daemon."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "identify the elements in files of spectra"

DEFAULT_MODEL = "elements"


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags: the files, the model, and where the probabilities go."""
    from zeroloss.recording.spectrum_files import add_axis_flags

    from ._model_flags import add_model_flags

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Identify the elements in spectra, line scans and spectrum images.\n\n"
        "FILE is whatever RosettaSciIO reads (.dm3 .dm4 .hspy .msa ...), text with two columns\n"
        "(energy in eV, counts) or rows of counts, or an .npz of many spectra with the arrays\n"
        "ids, offsets, energy and counts, where spectrum i is [offsets[i]:offsets[i+1]].\n"
        "The axis of rows of counts is that of the file name (_m4d054eV_45d471eV) or of the flags\n"
        "--offset-ev and --scale-ev.\n\n"
        "Every spectrum and every pixel is identified by itself. The table has one line per\n"
        "spectrum and one per image; an element counts as detected in an image when it passes\n"
        "the threshold in at least 1 % of the pixels (see --detect-share). With --mean an image\n"
        "is one spectrum: the mean over its pixels."
    )
    parser.epilog = (
        "examples:\n"
        "  zeroloss identify spectrum.msa\n"
        "  zeroloss identify scan.dm4 --mean\n"
        "  zeroloss identify spectra.npz --csv probabilities.csv --evidence-csv edges.csv\n"
        "  zeroloss identify scan.dm4 --package elements_fast\n\n"
        "The CSV has the header id,<labels of the model> and a row per spectrum; pixels are\n"
        "called FILE[row,column]. A row without values is a spectrum the model cannot look at.\n"
        "'A or B' are neighbouring elements whose edges in the range lie closer than the axis is\n"
        "known. Of an edge its tabulated onset is told, where the counts rise near it, and how\n"
        "far they rise above the noise.\n"
        "Exit code 0: all identified; 1: some were not; 2: none was."
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="file of spectra")
    parser.add_argument("--csv", type=Path, metavar="OUT", help="write every probability here")
    parser.add_argument(
        "--evidence",
        action="store_true",
        help="print the edges of what is detected, also for several spectra or images; of one they "
        "are printed anyway (of an image as its mean over the pixels shows them)",
    )
    parser.add_argument(
        "--evidence-csv", type=Path, metavar="OUT", help="write these edges here, a row each"
    )
    parser.add_argument(
        "--mean", action="store_true", help="identify the mean spectrum of each image"
    )
    parser.add_argument(
        "--package",
        "--model",
        dest="model",
        default=DEFAULT_MODEL,
        metavar="NAME",
        help="model package (default: elements)",
    )
    add_model_flags(
        parser, any_parameter="a parameter of the model, for what the file does not say"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help="probability from which an element is present (default: the model's own)",
    )
    parser.add_argument(
        "--detect-share",
        type=float,
        metavar="SHARE",
        help="share of an image's pixels in which a detected element must show at least "
        "(default: 0.01)",
    )
    add_axis_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Identify everything; 0 when all spectra were, 1 when some were not, 2 when none was."""
    from rich.console import Console

    from zeroloss.config import settings
    from zeroloss.maps import DETECTED_SHARE
    from zeroloss.recording.spectrum_files import axis_given

    from ._identification import Identifier, IdentifyError, identify_files

    for name, value in (("--threshold", args.threshold), ("--detect-share", args.detect_share)):
        if value is not None and not 0 < value <= 1:
            raise IdentifyError(f"{name} {value:g}: expected a number above 0, at most 1")
    axis = axis_given(args)
    identifier = Identifier(
        args.model, args.models, args.provider, args.threshold, settings(args.set)
    )
    return identify_files(
        identifier,
        args.files,
        csv_path=args.csv,
        evidence_path=args.evidence_csv,
        evidence=args.evidence,
        axis=axis,
        mean=args.mean,
        share=DETECTED_SHARE if args.detect_share is None else args.detect_share,
        console=Console(),
    )
