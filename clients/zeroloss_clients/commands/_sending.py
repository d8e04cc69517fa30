"""What the commands that send spectra share: flags, a progress bar, an orderly end."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from threading import Event
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from zeroloss.wire import RunEnd, RunStart

from ..microscope import (
    FaultPlan,
    Readout,
    SenderState,
    SendReport,
    StreamSender,
    Timed,
    stream,
)

EXIT_INCOMPLETE = 1
EXIT_INTERRUPTED = 130
DEFAULT_SOURCE = "tcp://127.0.0.1:5550"
DEFAULT_REQUESTS = "tcp://127.0.0.1:5552"


class Source(Protocol):
    """A run that can be sent: an acquisition, a recording, a file."""

    @property
    def start(self) -> RunStart:
        """The run."""

    @property
    def total(self) -> int | None:
        """Its number of spectra; None if endless or unknown."""

    def __iter__(self) -> Iterator[Timed]:
        """The readouts, when they are due."""

    def read(self, begin: int, end: int) -> Iterable[tuple[int, Readout]]:
        """Spectra once more."""


def add_sender_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of the way to the daemon."""
    group = parser.add_argument_group("the way to the daemon")
    group.add_argument(
        "--source",
        default=DEFAULT_SOURCE,
        metavar="ENDPOINT",
        help=f"where the daemon takes spectra (default: {DEFAULT_SOURCE})",
    )
    group.add_argument(
        "--requests",
        default=DEFAULT_REQUESTS,
        metavar="ENDPOINT",
        help=f"where the daemon answers what it misses (default: {DEFAULT_REQUESTS})",
    )
    group.add_argument(
        "--no-repair", action="store_true", help="never ask what is missing nor send it again"
    )
    group.add_argument(
        "--publish",
        action="store_true",
        help="publish instead of pushing: the daemon subscribes and may miss spectra",
    )
    group.add_argument(
        "--bind", action="store_true", help="listen at --source instead of connecting to it"
    )
    group.add_argument(
        "--patience",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long to wait at the end for a daemon that is away (default: 60)",
    )
    group.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="harm the stream: drop=P duplicate=P reorder=P corrupt=P stall=SECONDS@MESSAGE "
        "abort=MESSAGE endless (repeatable)",
    )


def make_sender(source: Source, args: argparse.Namespace, seed: int = 0) -> StreamSender:
    """The sender that the flags describe."""
    return StreamSender(
        source.start,
        args.source,
        requests=None if args.no_repair else args.requests,
        reread=source.read,
        pattern="pub" if args.publish else "push",
        bind=args.bind,
        faults=FaultPlan.parse(args.fault, seed=seed),
    )


def send_run(
    source: Source, sender: StreamSender, *, patience_s: float, ended: RunEnd | None = None
) -> int:
    """Send a whole run with a progress bar on stderr; returns the exit code.

    0: the daemon has everything (or nobody could be asked); 1: it has not; 130: Ctrl-C, upon which
    the run is ended as aborted.
    """
    console = Console(stderr=True, highlight=False)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        transient=False,
    )
    began = time.monotonic()
    stop = Event()
    with progress, sender:
        task = progress.add_task(_words(sender), total=source.total, rate="")

        def show(position: int) -> None:
            rate = position / max(1e-6, time.monotonic() - began)
            progress.update(
                task, completed=position, description=_words(sender), rate=f"{rate:.0f}/s"
            )

        sender.on_state = lambda _: progress.update(task, description=_words(sender))
        try:
            stream(source, sender, stop=stop, on_progress=show)
            progress.update(task, description=str(SenderState.FINISHING))
            if ended is None:
                report = sender.finish(patience_s=patience_s)
            else:
                report = sender.finish(
                    ended.status, ended.reason, spectra=ended.spectra, patience_s=patience_s
                )
        except KeyboardInterrupt:
            sender.finish("abort", "stopped by the user", patience_s=min(2.0, patience_s))
            progress.update(task, description="stopped")
            return EXIT_INTERRUPTED
        progress.update(task, description=_words(sender), completed=report.spectra)
    return _tell(console, report)


def _words(sender: StreamSender) -> str:
    state = sender.state
    return f"{state} at {sender.endpoint}" if state is SenderState.WAITING else str(state)


def _tell(console: Console, report: SendReport) -> int:
    words = [f"{report.spectra} spectra in {report.messages} messages"]
    if report.repaired:
        words.append(f"{report.repaired} sent again")
    if report.lost:
        words.append(f"{report.lost} are not in the source and stay lost")
    if report.complete:
        words.append("the daemon has them all" if not report.lost else "the daemon has the rest")
    console.print("; ".join(words))
    if report.reason:
        print(report.reason, file=sys.stderr)
    return EXIT_INCOMPLETE if report.complete is False else 0
