"""`zeroloss map FILE`: the maps of a spectrum image, through the same daemon as a live run."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path

HELP = "map a spectrum image file: elements with probability, spread and coverage"


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags: the files, where the map goes, and the daemon's own options."""
    from zeroloss.config import add_flags
    from zeroloss.recording.spectrum_files import add_axis_flags

    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Send a spectrum image through a daemon of its own and write the finished maps.\n"
        "Several files are several energy ranges of the same pixels."
    )
    parser.epilog = (
        "examples:\n"
        "  zeroloss map scan.dm4\n"
        "  zeroloss map core_loss.dm3 low_loss.dm3 --out scan-maps.hspy\n"
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="spectrum image")
    parser.add_argument(
        "--out", type=Path, help="the map file to write (default: FILE-maps.hspy in this folder)"
    )
    parser.add_argument("--force", action="store_true", help="overwrite an existing map file")
    add_axis_flags(parser)
    add_flags(parser, skip=frozenset({"stream", "outputs", "recording"}))


def run(args: argparse.Namespace) -> int:
    """Map the file; the exit code is 0 when the ledger balances without a loss."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from zeroloss.config import Config, ConfigError, Outputs, Recording, load_config
    from zeroloss.logs import set_up_logging
    from zeroloss.recording.spectrum_files import axis_given, read_spectrum_file
    from zeroloss.service import MAPS_NAME, Daemon, Finished
    from zeroloss.sources import FileSource

    out: Path = args.out or Path(f"{args.files[0].stem}-maps.hspy")
    if out.exists() and not args.force:
        raise ConfigError(f"{out} exists: name another --out or add --force")
    if not out.parent.is_dir():
        raise ConfigError(f"cannot write {out}: there is no folder {out.parent}")
    file = read_spectrum_file(*args.files, axis=axis_given(args))
    console = Console()
    for note in file.notes:
        console.print(f"note: {note}", style="yellow")
    with tempfile.TemporaryDirectory(prefix="zeroloss-map-", dir=out.parent) as folder:
        given = load_config(args)
        random_port = "tcp://127.0.0.1:*"
        config = Config.model_validate(
            given.model_dump()
            | {
                "outputs": Outputs(maps=random_port, requests=random_port, http="127.0.0.1:0"),
                "recording": Recording(recordings=Path(folder)),
                "log": given.log.model_copy(
                    update={} if vars(args)["log.log_level"] else {"log_level": "warning"}
                ),
            }
        )
        set_up_logging(config.log)
        finished: list[Finished] = []
        source = FileSource(file, speed=None)
        with (
            ThreadPoolExecutor(1) as pool,
            closing(source),
            closing(Daemon(config, source, on_finished=finished.append)) as daemon,
        ):
            daemon.start()
            serving = pool.submit(daemon.serve, once=True)
            with Progress(
                "mapping", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
            ) as progress:
                task = progress.add_task("map", total=file.shape[0] * file.shape[1])
                while not wait([serving], 0.1).done:
                    for live in daemon.open_runs():
                        progress.update(task, completed=live.totals().processed)
                serving.result()
                progress.update(task, completed=finished[0].run.totals().processed)
        closed = finished[0].run.closing
        assert closed is not None
        folder_of_run = finished[0].folder
        if folder_of_run is None or not (folder_of_run / MAPS_NAME).exists():
            fault = closed.reason or daemon.recording_fault
            raise ConfigError(f"no map beside {out}: {fault}")
        shutil.move(folder_of_run / MAPS_NAME, out)
    totals = finished[0].run.totals()
    for key, labels in closed.detected.items():
        console.print(f"{key}: [bold]{' '.join(labels) or 'nothing'}[/bold]")
    console.print(
        f"{totals.processed} of {totals.announced} spectra mapped, {totals.missed} missed, "
        f"{sum(totals.rejected.values())} rejected; {totals.masked_channels} channels masked"
    )
    console.print(f"maps written to {out}")
    return 0 if totals.balanced and totals.processed == totals.announced else 1
