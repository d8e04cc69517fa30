"""`zeroloss watch`: the live maps of a running daemon in the terminal."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threading import Event

    from rich.console import Console

    from ..subscriber import LiveMaps
    from ..terminal import MapsView

HELP = "watch the live maps of a daemon in the terminal"
DEFAULT_MAPS = "tcp://127.0.0.1:5551"
DEFAULT_REQUESTS = "tcp://127.0.0.1:5552"
FRAME_S = 0.15


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags: where the daemon is, and whether to print once."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Watch maps grow: the elements found, how sure that is, progress, ledger, model.\n"
        "Joining late or a restarted daemon does not matter. Ctrl-C leaves."
    )
    parser.epilog = (
        "examples:\n"
        "  zeroloss watch\n"
        "  zeroloss watch --once                            print the maps when the run is done\n"
        "  zeroloss watch --maps tcp://127.0.0.1:6551 --requests tcp://127.0.0.1:6552\n"
    )
    parser.add_argument(
        "--maps",
        default=DEFAULT_MAPS,
        metavar="ENDPOINT",
        help=f"where the daemon publishes (default: {DEFAULT_MAPS})",
    )
    parser.add_argument(
        "--requests",
        default=DEFAULT_REQUESTS,
        metavar="ENDPOINT",
        help=f"where it answers (default: {DEFAULT_REQUESTS})",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="wait until the newest run is finished, print its final state, and leave",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="with --once: give up after this (default: never)",
    )


def run(args: argparse.Namespace) -> int:
    """Watch until Ctrl-C; with --once until the newest run is finished."""
    from threading import Event

    from rich.console import Console

    from ..subscriber import LiveMaps
    from ..terminal import MapsView

    console = Console(highlight=False)
    with LiveMaps(args.maps, args.requests) as maps:
        if args.once:
            print_when_finished(maps, console, args.timeout)
        elif not console.is_terminal:
            print_runs(maps, console)
        else:
            show(MapsView(maps), console, Event())
    return 0


def print_when_finished(maps: LiveMaps, console: Console, timeout_s: float | None) -> None:
    """Print the newest run once it is finished; `TimeoutError` when that takes too long."""
    from ..terminal import final_report

    console.print(final_report(maps.wait_for_close(timeout_s)))


def print_runs(maps: LiveMaps, console: Console) -> None:
    """Without a terminal to draw on: print every run when it is finished, until Ctrl-C."""
    from ..terminal import final_report

    for event in maps:
        if event.kind == "close":
            console.print(final_report(event.run))


def show(view: MapsView, console: Console, stop: Event) -> None:
    """Draw the view full screen until `stop` or Ctrl-C."""
    from rich.live import Live

    with Live(view, console=console, screen=True, auto_refresh=False) as live:
        try:
            while not stop.wait(FRAME_S):
                live.refresh()
        except KeyboardInterrupt:
            return
