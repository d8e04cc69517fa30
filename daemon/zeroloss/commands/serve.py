"""`zeroloss serve`: the daemon beside the microscope."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zeroloss.config import Config
    from zeroloss.recording import FolderLock

LINGER_S = 1.5
HELP = "run the daemon: spectra in, recording and live maps out"


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of the daemon, one per option of the configuration."""
    from zeroloss.config import add_flags

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Receive spectra over ZeroMQ, record them, run the models, publish live maps.\n"
        "Without any option everything is on loopback with the embedded models."
    )
    parser.epilog = (
        "examples:\n"
        "  zeroloss serve\n"
        "  zeroloss serve --config microscope.toml --provider cuda\n"
        "  zeroloss serve --source tcp://127.0.0.1:7000 --kind sub --connect\n"
        "  curl http://127.0.0.1:5553/health\n"
    )
    parser.add_argument(
        "--once", action="store_true", help="stop when a run is finished and none is open"
    )
    parser.add_argument(
        "--announce", action="store_true", help="print the endpoints as one JSON line when ready"
    )
    add_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C or SIGTERM; with --once until a run is finished."""
    from zeroloss.config import load_config
    from zeroloss.logs import set_up_logging
    from zeroloss.service import Daemon

    from ._stream_source import open_source

    config = load_config(args)
    set_up_logging(config.log)
    # The folder comes first: a source that is connected to deals its frames out at once.
    lock = _take_folder(config)
    with (
        lock or nullcontext(),
        open_source(config.stream) as source,
        closing(Daemon(config, source, lock=lock)) as daemon,
    ):
        signal.signal(signal.SIGTERM, lambda *_: daemon.stop())
        daemon.start()
        if args.announce:
            endpoints = {
                "source": source.endpoint,
                "maps": daemon.publisher.maps_endpoint,
                "requests": daemon.publisher.requests_endpoint,
                "http": f"{daemon.http.host}:{daemon.http.port}",
            }
            print(json.dumps(endpoints), flush=True)
        else:
            print(
                f"zeroloss is ready: spectra at {source.endpoint}, "
                f"maps at {daemon.publisher.maps_endpoint}, "
                f"health at http://{daemon.http.host}:{daemon.http.port}/health",
                file=sys.stderr,
            )
        daemon.serve(once=args.once)
        if args.once:
            # The source still asks whether everything arrived, subscribers for the last page.
            time.sleep(LINGER_S)
    return 0


def _take_folder(config: Config) -> FolderLock | None:
    """The folder of recordings, held; None where there is none that can be written.

    Raises `FolderHeldError` when another process records there.
    """
    from zeroloss.recording import FolderHeldError, FolderLock, RecordingError

    if not config.recording.record:
        return None
    try:
        return FolderLock(config.recording.recordings)
    except FolderHeldError:
        raise
    except RecordingError:
        return None  # the daemon says so, and tries again
