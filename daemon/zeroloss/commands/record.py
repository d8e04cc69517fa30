"""`zeroloss record`: a spectrum stream onto the disk, and nothing else."""

from __future__ import annotations

import argparse
import signal
import time
from threading import Event
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

    from zeroloss.sources import Source

    from ._stream_recorder import StreamRecorder

HELP = "record a spectrum stream without mapping it"
EXIT_INCOMPLETE = 1
EXIT_INTERRUPTED = 130
WAIT_S = 0.1
REFRESH_S = 0.2


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags: the source, the folder, and whether to go on after a run."""
    from zeroloss.config import add_flags

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Record a spectrum stream as it is received, without any model or map.\n"
        "`zeroloss replay` plays the recording into a daemon later.\n"
        "Exit code: 0 when every announced spectrum was recorded, 1 when some are missing or the\n"
        "run was not ended well, 2 when nothing could be recorded, also because another process\n"
        "records into the same folder, 130 after Ctrl-C."
    )
    parser.epilog = (
        "examples:\n"
        "  zeroloss record                                  sources push to tcp://127.0.0.1:5550\n"
        "  zeroloss record --kind sub --connect --source tcp://127.0.0.1:7000\n"
        "  zeroloss record --recordings /data/today --keep  go on with the next run\n"
    )
    parser.add_argument(
        "--keep", action="store_true", help="go on after the end of a run, until Ctrl-C"
    )
    sections = {"outputs", "models", "queue", "runs", "log"}
    add_flags(parser, skip=frozenset(sections | {"recording.record"}))


def run(args: argparse.Namespace) -> int:
    """Record until the run ends; with --keep until Ctrl-C or SIGTERM."""
    from rich.console import Console
    from rich.live import Live

    from zeroloss.config import load_config
    from zeroloss.recording import FolderLock, prepare_folder

    from ._stream_recorder import StreamRecorder
    from ._stream_source import open_source

    config = load_config(args)
    where = config.recording.recordings
    recorder = StreamRecorder(
        where,
        segment_bytes=config.recording.segment_mb << 20,
        fsync_s=config.recording.fsync_s,
    )
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    # The folder comes first: a source that is connected to deals its frames out at once.
    prepare_folder(where)
    with (
        FolderLock(where) as lock,
        open_source(config.stream) as source,
    ):
        if lock.fault is not None:
            console.print(f"note: {lock.fault}", style="yellow", markup=False)
        console.print(f"recording spectra from {source.endpoint} into {where}; Ctrl-C stops")
        try:
            # Without a terminal the last state would be left behind, without an end of line.
            with Live(
                console=console, auto_refresh=False, transient=not console.is_terminal
            ) as live:
                _record(source, recorder, live, stop, keep=args.keep)
        finally:
            recorder.close()
            _summarise(recorder)
    if stop.is_set():
        return EXIT_INTERRUPTED
    return 0 if all(item.complete for item in recorder.runs) else EXIT_INCOMPLETE


def _record(
    source: Source, recorder: StreamRecorder, live: Live, stop: Event, *, keep: bool
) -> None:
    shown = heard = time.monotonic()
    while not stop.is_set() and (keep or not recorder.runs or recorder.open_runs):
        received = source.receive(WAIT_S)
        now = time.monotonic()
        if received is not None:
            recorder.handle(received)
            heard = now
        if now - shown >= REFRESH_S:
            live.update(_state(recorder, now - heard), refresh=True)
            shown = now
    live.update(_state(recorder, 0.0), refresh=True)


def _state(recorder: StreamRecorder, silent_s: float) -> Text:
    from rich.text import Text

    lines = [item.line() for item in recorder.open_runs or recorder.runs[-1:]]
    if silent_s > 2:
        lines.append(f"no message for {silent_s:.0f} s")
    return Text("\n".join(lines) or "waiting for a run")


def _summarise(recorder: StreamRecorder) -> None:
    from rich.console import Console
    from rich.text import Text

    lines = [line for item in recorder.runs for line in item.summary()]
    lines += [f"not recorded: {count} {what}" for what, count in sorted(recorder.faults.items())]
    if lines:
        # Through rich, which keeps control characters of a title off the terminal.
        Console(soft_wrap=True).print(Text("\n".join(lines)))
