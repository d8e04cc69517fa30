"""Flags of the commands that read files of spectra."""

from __future__ import annotations

import argparse

from ._errors import SpectrumFileError
from ._text import Axis


def add_axis_flags(parser: argparse.ArgumentParser) -> None:
    """`--offset-ev` and `--scale-ev`: the axis of text that holds rows of counts only."""
    group = parser.add_argument_group(
        "energy axis", "of text that holds counts only and does not tell it in the file name"
    )
    group.add_argument(
        "--offset-ev", type=float, metavar="EV", help="energy at the centre of the first channel"
    )
    group.add_argument("--scale-ev", type=float, metavar="EV", help="eV per channel")


def axis_given(args: argparse.Namespace) -> Axis | None:
    """What the flags say; `SpectrumFileError` where one is missing."""
    if args.offset_ev is None and args.scale_ev is None:
        return None
    if args.offset_ev is None or args.scale_ev is None:
        missing = "--offset-ev" if args.offset_ev is None else "--scale-ev"
        raise SpectrumFileError(f"an energy axis needs both numbers: {missing} is missing")
    return args.offset_ev, args.scale_ev
