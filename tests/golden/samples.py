"""Messages of every kind, every field at a value of its own; the golden bytes hold these."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zeroloss.wire import (
    EnergyRange,
    Gaps,
    Heartbeat,
    LedgerTotals,
    LedgerUpdate,
    MapClose,
    MapOpen,
    MapUpdate,
    Message,
    OutputInfo,
    PackageInfo,
    ParameterInfo,
    Refusal,
    Request,
    RunEnd,
    RunStart,
    ScanPlan,
    SelectionInfo,
    Snapshot,
    Spectra,
    SpectraBlock,
    SpectrumAxis,
    SpectrumInfo,
)

RUN = bytes(range(16))
DAEMON = bytes(range(100, 108))
T_NS = 1_767_225_600_000_000_000

CORE = EnergyRange(
    name="core_loss", offset_ev=428.5, scale_ev=0.5, size=4, dtype="uint16", saturation=65535.0
)
LOW = EnergyRange(name="low_loss", offset_ev=-50.0, scale_ev=0.25, size=3, dtype="float32")

RASTER = RunStart(
    run=RUN,
    t_ns=T_NS,
    scan=ScanPlan(shape=(2, 3), dwell_s=0.001, step=(0.5, 0.5)),
    ranges=(CORE,),
    expected=6,
    beam_kev=200.0,
    convergence_mrad=25.0,
    collection_mrad=50.0,
    title="ferrite grain",
    metadata={"operator": "A. Beobachter", "gun": "cold", "aperture": 3, "ok": True, "note": None},
)
ENDLESS = RunStart(
    run=RUN,
    t_ns=T_NS,
    scan=ScanPlan(
        shape=(64, 64), pattern="serpentine", region=(8, 16, 4, 5), passes=None, step_unit="um"
    ),
    ranges=(CORE, LOW),
)
LISTED = RunStart(
    run=RUN, t_ns=T_NS, scan=ScanPlan(shape=(2, 3), pattern="list"), ranges=(CORE, LOW)
)
XRAYS = RunStart(
    run=RUN,
    t_ns=T_NS,
    scan=ScanPlan(shape=(2, 3), passes=7),
    ranges=(EnergyRange(name="edx", offset_ev=-470.0, scale_ev=10.0, size=5, dtype="uint8"),),
    modality="edx",
    expected=42,
)

ELEMENTS = PackageInfo(
    name="elements",
    version="1.2.0",
    sha256="ab" * 32,
    provider="CPUExecutionProvider",
    precision="float32",
    range_name="core_loss",
    outputs=(
        OutputInfo(
            name="probability",
            kind="probability",
            shape=(2,),
            labels=("Mn", "Fe"),
            uncertainty="spread",
            threshold=0.5,
        ),
        OutputInfo(name="spread", kind="scalar", shape=(2,), labels=("Mn", "Fe")),
        OutputInfo(name="thickness", kind="scalar", shape=(), unit="t/λ"),
    ),
)
LOW_LOSS = PackageInfo(
    name="low_loss",
    version="0.3.0",
    sha256="ef" * 32,
    provider="CPUExecutionProvider",
    precision="float16",
    range_name="low_loss",
    outputs=(
        OutputInfo(name="gap", kind="scalar", shape=(), unit="eV", reason="why"),
        OutputInfo(name="why", kind="label", shape=(), labels=("given", "too thick")),
        OutputInfo(
            name="subtracted",
            kind="spectrum",
            shape=(2, 256),
            labels=("model", "data"),
            unit="counts",
            axis=SpectrumAxis(offset_ev=-3.0, scale_ev=0.25, name="energy loss, corrected"),
        ),
    ),
    parameters=(
        ParameterInfo(name="beam_kev", value=200.0, unit="keV"),
        ParameterInfo(name="refractive_index", value=None),
    ),
)
QUANTIFY = PackageInfo(
    name="quantify",
    version="0.1.0",
    sha256="12" * 32,
    provider="CPUExecutionProvider",
    precision="float32",
    range_name="core_loss",
    outputs=(
        OutputInfo(name="atomic_fraction", kind="scalar", shape=(2,), labels=("O", "Mn"), unit="%"),
    ),
    parameters=(ParameterInfo(name="exposure_ratio", value=20.0),),
    selection=SelectionInfo(name="elements", labels=("O", "Mn")),
    low_loss_range="low_loss",
)
TOTALS = LedgerTotals(
    announced=100,
    processed=80,
    pending=12,
    missed=5,
    rejected={"saturated": 2, "channels": 1},
    duplicates=4,
    foreign=3,
    masked_channels=17,
    malformed={"truncated": 1},
)
OPEN = MapOpen(
    run=RUN,
    seq=7,
    t_ns=T_NS + 1,
    daemon=DAEMON,
    start=RASTER,
    packages=(ELEMENTS, LOW_LOSS),
    software="zeroloss 0.1.0",
    config_sha256="cd" * 32,
)
VALUES = {
    "elements/probability": np.array([[0.25, 0.75], [np.nan, 1.0]], dtype=np.float32),
    "elements/thickness": np.array([0.5, np.nan], dtype=np.float32),
}
CLOSE = MapClose(
    run=RUN,
    seq=11,
    t_ns=T_NS + 4,
    daemon=DAEMON,
    status="abort",
    reason="stopped by the operator",
    totals=TOTALS,
    detected={"elements/probability": ("Mn", "Fe")},
)
COVERAGE = np.array([2, 3], dtype=np.uint8)

SAMPLES: dict[str, Message] = {
    "run_start_raster": RASTER,
    "run_start_endless_serpentine": ENDLESS,
    "run_start_list": LISTED,
    "run_start_edx_passes": XRAYS,
    "spectra_block": SpectraBlock(
        run=RUN,
        seq=1,
        t_ns=T_NS + 1000,
        schema=RASTER.schema,
        first=0,
        counts={"core_loss": np.arange(8, dtype=np.uint16).reshape(2, 4)},
    ),
    "spectra_block_list_two_ranges": SpectraBlock(
        run=RUN,
        seq=2,
        t_ns=T_NS + 2000,
        schema=LISTED.schema,
        first=1 << 33,
        counts={
            "core_loss": np.array([[1, 2, 3, 65535]], dtype=np.uint16),
            "low_loss": np.array([[-1.5, np.nan, np.inf]], dtype=np.float32),
        },
        pixels=np.array([5], dtype=np.uint32),
    ),
    "heartbeat": Heartbeat(run=RUN, seq=2, t_ns=T_NS + 3000, spectra=3),
    "run_end": RunEnd(
        run=RUN, seq=3, t_ns=T_NS + 4000, spectra=6, status="fail", reason="camera lost"
    ),
    "map_open": OPEN,
    "map_open_with_a_selection": replace(OPEN, packages=(QUANTIFY,)),
    "map_update": MapUpdate(
        run=RUN,
        seq=8,
        t_ns=T_NS + 2,
        daemon=DAEMON,
        pixels=np.array([0, 4], dtype=np.uint32),
        coverage=COVERAGE,
        values=VALUES,
    ),
    "ledger_update": LedgerUpdate(
        run=RUN, seq=9, t_ns=T_NS + 3, daemon=DAEMON, totals=TOTALS, lag_s=0.25, rate_hz=1234.5
    ),
    "map_close": CLOSE,
    "request_snapshot_newest": Request(op="snapshot", ticket=5),
    "request_gaps": Request(op="gaps", ticket=6, run=RUN, t_ns=T_NS),
    "request_spectrum_of_pixels": Request(
        op="spectrum",
        ticket=11,
        run=RUN,
        t_ns=T_NS,
        what=("raw/core_loss", "elements/probability"),
        pixels=np.array([4, 1], dtype=np.uint32),
    ),
    "request_spectrum_with_parameters": Request(
        op="spectrum",
        ticket=13,
        what=("low_loss/gap",),
        parameters={"low_loss.refractive_index": 2.5, "low_loss.beam_kev": 80.0},
    ),
    "request_spectrum_of_a_region": Request(op="spectrum", ticket=12, rows=(0, 2), columns=(1, 3)),
    "snapshot_page": Snapshot(
        run=RUN,
        seq=9,
        t_ns=T_NS + 5,
        ticket=5,
        opened=OPEN,
        totals=TOTALS,
        first=2,
        coverage=COVERAGE,
        values=VALUES,
    ),
    "snapshot_of_a_finished_map": Snapshot(
        run=RUN,
        seq=11,
        t_ns=T_NS + 6,
        ticket=8,
        opened=OPEN,
        totals=TOTALS,
        first=4,
        coverage=COVERAGE,
        values=VALUES,
        closed=CLOSE,
    ),
    "gaps": Gaps(
        run=RUN,
        ticket=6,
        t_ns=T_NS + 7,
        announced=100,
        ranges=((3, 5), (64, 67)),
        ended=True,
        complete=False,
    ),
    "spectra": Spectra(
        run=RUN,
        ticket=11,
        t_ns=T_NS + 10,
        pixels=4,
        spectra=3,
        empty=1,
        left_out={"no valid channel": 2},
        counts_from="recording",
        infos=(
            SpectrumInfo(
                name="raw/core_loss",
                kind="raw",
                range_name="core_loss",
                unit="counts",
                axis_ev=(428.5, 0.5),
            ),
            SpectrumInfo(
                name="elements/probability",
                kind="probability",
                range_name="core_loss",
                labels=("C", "Fe"),
                version="1.2.0",
                sha256="ab" * 32,
                provider="CPUExecutionProvider",
                precision="float32",
                parameters=(ParameterInfo(name="beam_kev", value=200.0, unit="keV"),),
            ),
        ),
        arrays={
            "raw/core_loss": np.array([1.0, np.nan, 2.5, 1e9]),
            "elements/probability": np.array([0.25, 0.75], dtype=np.float32),
        },
    ),
    "refusal": Refusal(ticket=9, t_ns=T_NS + 8, reason="no such run", run=RUN),
    "refusal_without_a_run": Refusal(ticket=10, t_ns=T_NS + 9, reason="no run yet"),
}
_OPEN_BEFORE_REASONS = replace(OPEN, packages=(ELEMENTS,))
OLDER: dict[str, Message] = {
    name: replace(SAMPLES[name], **changes)
    for name, changes in {
        "map_open": {"packages": (ELEMENTS,)},
        "snapshot_page": {"opened": _OPEN_BEFORE_REASONS},
        "snapshot_of_a_finished_map": {"opened": _OPEN_BEFORE_REASONS},
    }.items()
}
"""What the bytes of `older/` say, which were written before some keys were there."""
