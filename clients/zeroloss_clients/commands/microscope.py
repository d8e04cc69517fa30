"""`zeroloss microscope`: a simulated acquisition into a daemon."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

HELP = "simulate an acquisition: scan a simulated specimen into a daemon"


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of the scan and of the way to the daemon."""
    from ._sending import add_sender_flags

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Scan a simulated specimen, with new noise every time, and send its spectra to a daemon.\n"
        "Spectra that do not arrive are sent again; --fault harms the stream on purpose.\n"
        "Exit code: 0 when the daemon has every spectrum, 1 when not, 130 after Ctrl-C."
    )
    parser.epilog = (
        "examples:\n"
        "  zeroloss microscope\n"
        "  zeroloss microscope --shape 96x128 --dwell 0.001 --pattern serpentine --passes 3\n"
        "  zeroloss microscope --passes 0                   until Ctrl-C\n"
        "  zeroloss microscope --region 10,10,20,30 --fault drop=0.01 --fault stall=3@50\n"
    )
    add_scan_flags(parser)
    add_sender_flags(parser)


def add_scan_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of the specimen and the scan."""
    group = parser.add_argument_group("the scan")
    group.add_argument("--specimen", type=Path, metavar="NPZ", help="another specimen file")
    group.add_argument(
        "--shape", type=shape, metavar="ROWSxCOLUMNS", help="pixels (default: the specimen's)"
    )
    group.add_argument(
        "--region", type=region, metavar="Y,X,ROWS,COLUMNS", help="scan a part of the map only"
    )
    group.add_argument(
        "--pattern",
        choices=("raster", "serpentine", "list"),
        default="raster",
        help="path of the beam; list: every pixel once in random order (default: raster)",
    )
    group.add_argument(
        "--passes", type=int, default=1, help="passes over the same pixels; 0: until Ctrl-C"
    )
    group.add_argument(
        "--dwell",
        type=seconds,
        metavar="SECONDS",
        help="dwell time; sets the pace and the counts (default: the specimen's)",
    )
    group.add_argument(
        "--fast", action="store_true", help="same counts, but as fast as the daemon takes them"
    )
    group.add_argument(
        "--range",
        dest="ranges",
        action="append",
        metavar="NAME",
        help="an energy range of the specimen (repeatable; default: all)",
    )
    group.add_argument("--seed", type=int, help="of the noise (default: new noise every time)")


def shape(text: str) -> tuple[int, int]:
    """Rows x columns."""
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected ROWSxCOLUMNS such as 48x64, got {text!r}")
    return int(match[1]), int(match[2])


def region(text: str) -> tuple[int, int, int, int]:
    """Row, column, rows, columns of a sub-scan."""
    match = re.fullmatch(r"(\d{1,5}),(\d{1,5}),([1-9]\d{0,4}),([1-9]\d{0,4})", text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"expected Y,X,ROWS,COLUMNS such as 10,20,16,16, got {text!r}"
        )
    return int(match[1]), int(match[2]), int(match[3]), int(match[4])


def seconds(text: str) -> float:
    """A dwell time above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"expected seconds from 0 to 3600, got {text!r}")
    return value


def run(args: argparse.Namespace) -> int:
    """Scan once and repair what is missing."""
    from ..microscope import Acquisition, Specimen
    from ._sending import make_sender, send_run

    specimen = Specimen.shipped() if args.specimen is None else Specimen.load(args.specimen)
    acquisition = Acquisition(
        specimen,
        shape=args.shape,
        region=args.region,
        pattern=args.pattern,
        passes=args.passes or None,
        dwell_s=args.dwell,
        paced=not args.fast,
        ranges=args.ranges,
        seed=args.seed,
    )
    sender = make_sender(acquisition, args, seed=acquisition.seed)
    return send_run(acquisition, sender, patience_s=args.patience)
