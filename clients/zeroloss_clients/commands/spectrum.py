"""`zeroloss spectrum`: the spectrum of a pixel or region of a running daemon, drawn or written."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .watch import DEFAULT_REQUESTS

if TYPE_CHECKING:
    import zmq
    from rich.console import Console

    from zeroloss.wire import MapOpen, PackageInfo

    from ..spectrum import SummedSpectra

HELP = "the spectrum of a pixel or region of a running daemon"
EXIT_INCOMPLETE = 1
PLOT_LINES = 14
Ends = tuple[int | None, int | None]


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags: which pixels, what of them, and where it goes."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Ask a running daemon for the summed spectrum of some pixels, raw or as a model sees it,\n"
        "during the run or after it. Without --out it is drawn in the terminal, and numbers come\n"
        "with their uncertainty and the reason why they are missing.\n"
        "Exit code: 0 when every pixel asked for is in the sum, 1 when some gave no spectrum,\n"
        "2 when there is no answer."
    )
    parser.epilog = (
        "examples:\n"
        "  zeroloss spectrum --list                               what can be asked for\n"
        "  zeroloss spectrum --pixel 12 40                        the raw counts, drawn\n"
        "  zeroloss spectrum --region 0:32,10:20 --out sum.msa\n"
        "  zeroloss spectrum --region :,: --what raw/core_loss --what elements/probability\n"
        "  zeroloss spectrum --pixel 3 4 --pixel 3 5 --out both.npz\n"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--pixel",
        action="append",
        nargs=2,
        type=int,
        metavar=("ROW", "COLUMN"),
        help="one pixel, counted from 0; repeat it to sum several",
    )
    where.add_argument(
        "--region",
        type=region,
        metavar="R0:R1,C0:C1",
        help="rows R0 to R1 - 1 and columns C0 to C1 - 1; an end left out is that of the map",
    )
    where.add_argument("--list", action="store_true", help="print what can be asked for, and leave")
    parser.add_argument(
        "--what",
        action="append",
        default=[],
        metavar="NAME",
        help="raw/RANGE or PACKAGE/OUTPUT; repeatable (default: the raw counts of every range)",
    )
    parser.add_argument(
        "--set",
        type=setting,
        action="append",
        default=[],
        metavar="PACKAGE.NAME=VALUE",
        help="a parameter of a model, in place of that of the run; repeatable",
    )
    parser.add_argument(
        "--run",
        dest="uid",
        type=uid,
        metavar="HEX",
        help="uid of the run, 32 digits (default: the newest)",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a .csv, .npz or .msa file")
    parser.add_argument("--force", action="store_true", help="overwrite an existing file")
    parser.add_argument("--log", action="store_true", help="draw the logarithm of the counts")
    parser.add_argument(
        "--requests",
        default=DEFAULT_REQUESTS,
        metavar="ENDPOINT",
        help=f"where the daemon answers (default: {DEFAULT_REQUESTS})",
    )
    parser.add_argument(
        "--timeout",
        type=positive,
        default=30.0,
        metavar="SECONDS",
        help="longest wait for the answer (default: 30)",
    )


def run(args: argparse.Namespace) -> int:
    """Ask, then draw or write; 1 when some of the pixels gave no spectrum."""
    import zmq
    from rich.console import Console

    from ..spectrum import PixelError, ask_spectra, askable
    from ..spectrum_files import check_path, write_spectra

    if not (args.pixel or args.region or args.list):
        raise PixelError("which pixels? Give --pixel ROW COLUMN, --region R0:R1,C0:C1, or --list")
    if args.out is not None:
        check_path(args.out, force=args.force)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    opened = _opened(context, args)
    console = Console(highlight=False)
    if args.list:
        for name in askable(opened.start, opened.packages):
            console.print(name, markup=False)
        return 0
    rows = columns = None
    if args.region:
        rows, columns = map(_resolved, args.region, opened.start.scan.shape)
    summed = ask_spectra(
        context,
        args.requests,
        opened.start,
        what=args.what if args.out else _with_companions(args.what, opened.packages),
        pixels=args.pixel,
        rows=rows,
        columns=columns,
        parameters=dict(args.set),
        timeout_s=args.timeout,
    )
    if args.out is None:
        draw(summed, console, log=args.log)
    else:
        write_spectra(args.out, summed)
        console.print(f"{args.out}: {summed.counted} spectra of {summed.pixels} pixels")
    return EXIT_INCOMPLETE if summed.empty or summed.left_out else 0


def draw(summed: SummedSpectra, console: Console, *, log: bool = False) -> None:
    """Print every answer: spectra as a chart, the others in words."""
    from ..spectrum_files import head_lines
    from ..terminal.plot import plot_lines

    for line in head_lines(summed):
        console.print(line, soft_wrap=True, markup=False)
    for item in summed.values():
        if item.energies_ev is None:
            continue
        for name, values in item.curves.items():
            unit = f" ({item.unit})" if item.unit else ""
            console.print(f"\n{name}{unit}", style="bold", markup=False)
            for line in plot_lines(
                item.energies_ev,
                values,
                columns=console.width,
                lines=PLOT_LINES,
                log=log,
                blocks=console.encoding.lower().startswith("utf"),
            ):
                console.print(line, markup=False, no_wrap=True)


def region(text: str) -> tuple[Ends, Ends]:
    """Rows and columns from R0:R1,C0:C1; None for an end that is left out."""
    try:
        rows, columns = text.split(",")
        return _ends(rows), _ends(columns)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected R0:R1,C0:C1 like 0:32,10:20 or :,5:6, got {text!r}"
        ) from None


def _ends(text: str) -> Ends:
    begin, end = text.split(":")
    return int(begin) if begin.strip() else None, int(end) if end.strip() else None


def setting(text: str) -> tuple[str, float]:
    """Parameter and value from PACKAGE.NAME=VALUE."""
    name, _, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        value = math.nan
    if "." not in name or not math.isfinite(value):
        raise argparse.ArgumentTypeError(
            f"expected PACKAGE.NAME=VALUE like low_loss.refractive_index=2.1, got {text!r}"
        )
    return name, value


def positive(text: str) -> float:
    """A finite number above zero."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds above zero, got {text!r}")
    return value


def uid(text: str) -> bytes:
    """The 16 bytes of a run from their hex digits."""
    from zeroloss.wire import RUN_BYTES

    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != RUN_BYTES:
        raise argparse.ArgumentTypeError(f"expected the 32 hex digits of a run, got {text!r}")
    return value


def _opened(context: zmq.Context[zmq.Socket[bytes]], args: argparse.Namespace) -> MapOpen:
    """The run asked for, or the newest, as the daemon opened it."""
    from zeroloss.wire import Request, Snapshot

    from .._requests import ask_once
    from ..spectrum import SpectrumRefusedError

    request = Request(op="snapshot", ticket=1, run=args.uid)
    reply = ask_once(context, args.requests, request, args.timeout)
    if not isinstance(reply, Snapshot):
        raise SpectrumRefusedError(getattr(reply, "reason", f"the daemon sent {reply.KIND!r}"))
    return reply.opened


def _with_companions(what: list[str], packages: Sequence[PackageInfo]) -> list[str]:
    """With every number its uncertainty and the reason why it may be missing, while they fit."""
    from zeroloss.wire import layer_key
    from zeroloss.wire.limits import MAX_ASKED_NAMES

    outputs = {layer_key(package.name, o.name): o for package in packages for o in package.outputs}
    wanted = list(what)
    for name in what:
        output = outputs.get(name)
        if output is not None and output.kind != "spectrum":
            beside = [item for item in (output.uncertainty, output.reason) if item is not None]
            wanted += [layer_key(name.partition("/")[0], item) for item in beside]
    return list(dict.fromkeys(wanted))[: max(len(what), MAX_ASKED_NAMES)]


def _resolved(ends: Ends, size: int) -> tuple[int, int]:
    begin, end = ends
    return 0 if begin is None else begin, size if end is None else end
