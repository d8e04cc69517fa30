"""The end of a run: holes marked, the map file written, the ledger kept beside it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from zeroloss import __version__
from zeroloss.maps import Closing, MapFileError, write_hspy
from zeroloss.pipeline import Run
from zeroloss.recording import RecordingError
from zeroloss.wire import LedgerTotals
from zeroloss.wire.limits import MAX_TEXT

log = logging.getLogger(__name__)

CLOSED_NAME = "closed.json"
MAPS_NAME = "maps.hspy"


@dataclass(frozen=True, slots=True)
class Finished:
    """A run whose map is finished; `folder` is None where nothing was recorded."""

    run: Run
    folder: Path | None


def is_closed(folder: Path) -> bool:
    """Whether the run recorded in this folder was finished."""
    return (folder / CLOSED_NAME).exists()


def reopen(folder: Path) -> None:
    """The run recorded in this folder goes on: it is to be recovered if the daemon dies now."""
    (folder / CLOSED_NAME).unlink(missing_ok=True)


def close_run(run: Run, *, detect_share: float, config_sha256: str) -> Finished:
    """Write what a finished run leaves and tell the run, so that its subscribers hear of it.

    Whatever cannot be written is part of the run's end reason; the maps stay published.
    """
    run.mark_lost()
    totals = run.totals()
    detected = run.store.detected(detect_share)
    end = run.end
    assert end is not None
    reasons = [end.reason] if end.reason else []
    folder = run.folder
    if folder is not None:
        provenance = {
            "software": f"zeroloss {__version__}",
            "config_sha256": config_sha256,
            "status": end.status,
            "reason": end.reason,
        }
        try:
            write_hspy(
                folder / MAPS_NAME,
                run.store,
                provenance,
                totals,
                detected,
                share=detect_share,
            )
            _note_closed(folder, run, totals, detected)
        except MapFileError as error:
            log.error("run %s: %s", run.name, error)
            reasons.append(str(error))
        except Exception as error:
            log.exception("run %s: the map file could not be written", run.name)
            reasons.append(f"the map file could not be written: {error}")
    if run.recorder is not None:
        try:
            run.recorder.close()
        except RecordingError as error:
            log.error("run %s: %s", run.name, error)
            reasons.append(str(error))
    reason = "; ".join(reasons)[:MAX_TEXT]
    run.close(Closing(status=end.status, reason=reason, detected=detected))
    found = "; ".join(f"{key}: {' '.join(names) or 'none'}" for key, names in detected.items())
    log.info("run %s finished (%s): %s", run.name, end.status, found or "no layers")
    return Finished(run, folder)


def _note_closed(
    folder: Path, run: Run, totals: LedgerTotals, detected: Mapping[str, tuple[str, ...]]
) -> None:
    note = {"run": run.start.run.hex(), "ledger": asdict(totals), "detected": dict(detected)}
    # In one step: a part of it would already say that the run was finished.
    part = folder / f".{CLOSED_NAME}.part"
    part.write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")
    part.replace(folder / CLOSED_NAME)
