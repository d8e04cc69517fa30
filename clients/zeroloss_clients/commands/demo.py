"""`zeroloss demo`: a daemon, a simulated microscope and the live view, with one command."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from .._live_run import LiveRun
    from ..local_daemon import LocalDaemon
    from ..microscope import Acquisition, Specimen
    from ..subscriber import LiveMaps

HELP = "see it work: a daemon, a simulated microscope and live maps on this machine"
EXIT_DIFFERS = 1
EXIT_INTERRUPTED = 130
ONCE_SHAPE = (32, 44)
FRAME_S = 0.15


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of the scan, and whether to check the result."""
    from .microscope import seconds, shape

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Start a daemon on loopback, scan a simulated specimen into it, and watch the maps grow.\n"
        "With --once: scan once, print what was found against what was put in, and exit with 0\n"
        "only if they agree."
    )
    parser.epilog = (
        "examples:\n"
        "  zeroloss demo\n"
        "  zeroloss demo --once\n"
        "  zeroloss demo --pattern serpentine --fault drop=0.05 --shape 64x96\n"
    )
    parser.add_argument("--once", action="store_true", help="scan once and check the result")
    parser.add_argument("--shape", type=shape, metavar="ROWSxCOLUMNS", help="pixels of the map")
    parser.add_argument("--dwell", type=seconds, metavar="SECONDS", help="dwell time")
    parser.add_argument("--pattern", choices=("raster", "serpentine", "list"), default="raster")
    parser.add_argument("--seed", type=int, help="of the noise (default: new noise every time)")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="harm the stream, e.g. drop=0.05 (repeatable; see zeroloss microscope --help)",
    )
    parser.add_argument("--provider", default="cpu", help="where the models run (default: cpu)")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="keep recording, map file and daemon log here"
    )


def run(args: argparse.Namespace) -> int:
    """Run everything, stop everything; the exit code tells whether found and put in agree."""
    from contextlib import ExitStack
    from tempfile import TemporaryDirectory

    from rich.console import Console

    from ..local_daemon import LocalDaemon
    from ..microscope import Acquisition, FaultPlan, Specimen
    from ..subscriber import LiveMaps

    console = Console(highlight=False)
    once = args.once or not console.is_terminal
    specimen = Specimen.shipped()
    acquisition = Acquisition(
        specimen,
        shape=args.shape or (ONCE_SHAPE if once else None),
        pattern=args.pattern,
        dwell_s=args.dwell,
        seed=args.seed,
    )
    faults = FaultPlan.parse(args.fault, seed=acquisition.seed)
    with ExitStack() as stack:
        if args.keep is None:
            temporary = TemporaryDirectory(prefix="zeroloss-demo-", ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(temporary))
        else:
            folder = args.keep
            folder.mkdir(parents=True, exist_ok=True)
        console.print("starting the daemon ...")
        daemon = stack.enter_context(LocalDaemon(folder, ["--provider", args.provider]))
        maps = stack.enter_context(LiveMaps(daemon.maps, daemon.requests))
        microscope = stack.enter_context(_Microscope(acquisition, daemon, faults))
        follow = _follow if once else _show
        finished = follow(maps, microscope, daemon, console)
        if finished is None:
            return EXIT_INTERRUPTED
        return _compare(finished, specimen, console)


class _Microscope:
    """The simulated microscope on a thread of its own; scans once inside `with`."""

    def __init__(self, acquisition: Acquisition, daemon: LocalDaemon, faults: object) -> None:
        from threading import Event, Thread

        from ..microscope import FaultPlan, StreamSender

        assert isinstance(faults, FaultPlan)
        self._acquisition = acquisition
        self._stop = Event()
        self.sender = StreamSender(
            acquisition.start,
            daemon.source,
            requests=daemon.requests,
            reread=acquisition.read,
            faults=faults,
        )
        self._thread = Thread(target=self._scan, name="microscope", daemon=True)

    @property
    def scanning(self) -> bool:
        """Whether it has not sent and confirmed everything."""
        return self._thread.is_alive()

    def _scan(self) -> None:
        from ..microscope import SourceAbortedError, stream

        try:
            if stream(self._acquisition, self.sender, stop=self._stop):
                self.sender.finish()
        except SourceAbortedError:
            return

    def __enter__(self) -> _Microscope:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.sender.close()
        self._thread.join()


def _follow(
    maps: LiveMaps, microscope: _Microscope, daemon: LocalDaemon, console: Console
) -> LiveRun | None:
    """Wait for the end with a progress bar, then print the maps."""
    from contextlib import suppress

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from ..terminal import final_report

    total = microscope.sender.run_start.expected
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console
    ) as progress:
        task = progress.add_task("mapped", total=total)
        while maps.run is None or maps.run.closed is None:
            daemon.check()
            with suppress(TimeoutError):
                maps.wait_for_close(FRAME_S)
            done = 0 if maps.run is None else maps.run.ledger.processed
            progress.update(task, completed=done)
    finished = maps.latest()
    console.print(final_report(finished))
    return finished


def _show(
    maps: LiveMaps, microscope: _Microscope, daemon: LocalDaemon, console: Console
) -> LiveRun | None:
    """Draw the live view until Ctrl-C; returns the run if it was finished by then."""
    from threading import Event

    from rich.live import Live

    from ..terminal import MapsView

    view = MapsView(maps, "zeroloss demo")
    pause = Event()
    closed = False
    with Live(view, console=console, screen=True, auto_refresh=False) as live:
        try:
            while True:
                daemon.check()
                closed = maps.run is not None and maps.run.closed is not None
                if closed:
                    view.note = "finished; Ctrl-C leaves"
                elif microscope.scanning:
                    view.note = f"simulated microscope: {microscope.sender.state}; Ctrl-C leaves"
                live.refresh()
                pause.wait(FRAME_S)
        except KeyboardInterrupt:
            return maps.run if closed else None


def _compare(run: LiveRun, specimen: Specimen, console: Console) -> int:
    """Print what was found against what was put in; 0 if they agree."""
    from rich.table import Table

    shares = run.shares()
    found, truth = set(run.detected), set(specimen.elements)
    table = Table(title="found against put in", title_justify="left")
    for name in ("element", "put in", "found", ""):
        table.add_column(name, justify="right")
    order = [*run.elements, *(truth - set(run.elements))]
    for element in [label for label in order if label in found | truth]:
        put_in = f"{100 * specimen.share(element):.1f} % of the area" if element in truth else "-"
        share = f"{100 * shares.get(element, 0.0):.1f} % of the area" if element in found else "-"
        right = element in found and element in truth
        table.add_row(element, put_in, share, "[green]yes[/]" if right else "[bold red]NO[/]")
    console.print(table)
    if found == truth and run.ledger.balanced and not run.ledger.missed:
        console.print("found and put in agree; every spectrum is accounted for", style="green")
        return 0
    console.print("found and put in DIFFER", style="bold red")
    return EXIT_DIFFERS
