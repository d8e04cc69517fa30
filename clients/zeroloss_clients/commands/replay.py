"""`zeroloss replay`: a recording or a file of spectra into a daemon, as if it were live."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "play a recording or a spectrum file into a daemon"


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags: what to play, how fast, and the way to the daemon."""
    from zeroloss.recording.spectrum_files import add_axis_flags

    from ._sending import add_sender_flags
    from .microscope import seconds

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Play a recording (the folder of a run, or one .mcap segment), or any file that\n"
        "RosettaSciIO reads (.dm3 .dm4 .hspy .msa .emd .ser ...), or text with spectra, through\n"
        "the network into a daemon. Several files are several energy ranges of the same pixels.\n"
        "Exit code: 0 when the daemon has every spectrum, 1 when not, 130 after Ctrl-C."
    )
    parser.epilog = (
        "examples:\n"
        "  zeroloss replay recordings/20261120T101500Z-1a2b3c4d --speed max\n"
        "  zeroloss replay scan.dm4 --dwell 0.002\n"
        "  zeroloss replay low.dm4 core.dm4 --range-name low_loss --range-name core_loss\n"
    )
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="what to play")
    parser.add_argument(
        "--speed",
        type=speed,
        default=1.0,
        metavar="FACTOR|max",
        help="1: as recorded; 4: four times as fast; max: as fast as the daemon takes it",
    )
    parser.add_argument(
        "--dwell",
        type=seconds,
        metavar="SECONDS",
        help="dwell time of a file (default: what it says; if nothing, as fast as possible)",
    )
    parser.add_argument(
        "--range-name",
        action="append",
        metavar="NAME",
        help="name of the energy range of each file, in their order (repeatable)",
    )
    parser.add_argument(
        "--same-run",
        action="store_true",
        help="keep the recording's run uid: a daemon that knows the run takes it as the same",
    )
    add_axis_flags(parser)
    add_sender_flags(parser)


def speed(text: str) -> float | None:
    """A factor above zero, or None for "max"."""
    if text == "max":
        return None
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor <= 1e6:
        raise argparse.ArgumentTypeError(f"expected a factor above 0, or max, got {text!r}")
    return factor


def run(args: argparse.Namespace) -> int:
    """Play everything once and repair what is missing."""
    import sys

    from zeroloss.recording.spectrum_files import axis_given, is_recording

    from ..microscope.replay import FileSource, RecordedSource
    from ._sending import make_sender, send_run

    first: Path = args.paths[0]
    source: RecordedSource | FileSource
    axis = axis_given(args)
    if is_recording(first):
        if len(args.paths) > 1:
            raise ReplayError("one recording at a time; several paths are for files of one scan")
        if axis is not None:
            raise ReplayError(f"{first.name}: a recording holds its own energy axis: give none")
        source = RecordedSource(first, speed=args.speed, same_run=args.same_run)
    else:
        source = FileSource(
            args.paths,
            names=args.range_name,
            axis=axis,
            dwell_s=args.dwell,
            speed=args.speed,
        )
        for note in source.file.notes:
            print(f"{first.name}: {note}", file=sys.stderr)
    code = send_run(source, make_sender(source, args), patience_s=args.patience, ended=source.ended)
    if isinstance(source, RecordedSource):
        for sentence in source.recorded.damage:
            print(sentence, file=sys.stderr)
    return code


class ReplayError(ValueError):
    """Paths that cannot be played together."""
