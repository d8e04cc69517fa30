"""What a map file says of its map: the run, its calibration, the packages, the ledger."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

import zeroloss
from zeroloss.wire import LedgerTotals, OutputInfo, PackageInfo, RunStart
from zeroloss.wire.fields import Scalar

from ._tree import Tree
from .store import MapStore

_ELEMENT = re.compile(r"[A-Z][a-z]?")


def about_layer(package: PackageInfo, output: OutputInfo) -> dict[str, Scalar | Tree]:
    """What one layer is, and the package that made it."""
    return {
        "kind": output.kind,
        "unit": output.unit,
        "threshold": output.threshold,
        "uncertainty": output.uncertainty,
        "reason": output.reason,
        "package": {
            "name": package.name,
            "version": package.version,
            "sha256": package.sha256,
            "provider": package.provider,
            "precision": package.precision,
            "energy_range": package.range_name,
            "parameters": {item.name: item.value for item in package.parameters},
            "selection": package.selected,
            "low_loss_range": package.low_loss_range,
        },
    }


def about_run(
    store: MapStore,
    provenance: Mapping[str, Scalar],
    totals: LedgerTotals,
    detected: Mapping[str, tuple[str, ...]],
    share: float,
) -> dict[str, Scalar | Tree]:
    """What is the same for all signals of the file, for `metadata.Zeroloss`."""
    start, scan = store.start, store.start.scan
    by_package: dict[str, dict[str, tuple[str, ...]]] = {}
    for key, labels in detected.items():
        package, _, output = key.partition("/")
        by_package.setdefault(package, {})[output] = labels
    return {
        "provenance": {"software_version": zeroloss.__version__, **provenance},
        "run": {
            "uid": start.run.hex(),
            "t_ns": start.t_ns,
            "modality": start.modality,
            "title": start.title,
            "expected": start.expected,
            "metadata": dict(start.metadata),
        },
        "scan": {
            "pattern": scan.pattern,
            "shape": scan.shape,
            "region": scan.region,
            "passes": scan.passes,
            "dwell_s": scan.dwell_s,
        },
        "energy_ranges": {
            item.name: {
                "offset_ev": item.offset_ev,
                "scale_ev": item.scale_ev,
                "size": item.size,
                "saturation": item.saturation,
            }
            for item in start.ranges
        },
        "ledger": {
            "announced": totals.announced,
            "processed": totals.processed,
            "pending": totals.pending,
            "missed": totals.missed,
            "rejected": dict(totals.rejected),
            "duplicates": totals.duplicates,
            "foreign": totals.foreign,
            "masked_channels": totals.masked_channels,
            "malformed": dict(totals.malformed),
        },
        "detected": by_package,
        "detected_share": share,
    }


def general(start: RunStart, title: str) -> dict[str, Tree]:
    """Title, date and microscope, under the names that HyperSpy gives them."""
    began = datetime.fromtimestamp(start.t_ns / 1e9, UTC)
    microscope: dict[str, Scalar | Tree] = {"acquisition_mode": "STEM"}
    if start.beam_kev is not None:
        microscope["beam_energy"] = start.beam_kev
    if start.convergence_mrad is not None:
        microscope["convergence_angle"] = start.convergence_mrad
    detector: dict[str, Scalar] = {}
    if start.collection_mrad is not None:
        detector["collection_angle"] = start.collection_mrad
    if start.scan.dwell_s is not None:
        detector["dwell_time"] = start.scan.dwell_s
    if detector:
        microscope["Detector"] = {"EELS" if start.modality == "eels" else "EDS": detector}
    return {
        "General": {
            "title": title,
            "date": began.date().isoformat(),
            "time": began.time().isoformat("seconds"),
            "time_zone": "UTC",
        },
        "Acquisition_instrument": {"TEM": microscope},
    }


def elements(detected: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The detected labels that are chemical symbols, sorted."""
    labels = {label for found in detected.values() for label in found}
    return sorted(label for label in labels if _ELEMENT.fullmatch(label))
