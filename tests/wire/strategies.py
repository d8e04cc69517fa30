"""Hypothesis strategies for every message of the protocol, within its caps."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zeroloss.wire import (
    COUNT_DTYPES,
    EnergyRange,
    Gaps,
    Heartbeat,
    LedgerTotals,
    LedgerUpdate,
    MapClose,
    MapOpen,
    MapUpdate,
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
from zeroloss.wire.acquisition import EXIT_STATUSES, MAX_SEQ, MODALITIES, PATTERNS
from zeroloss.wire.layers import OUTPUT_KINDS
from zeroloss.wire.limits import MAX_CHANNELS, MAX_PIXELS, MAX_SPECTRA
from zeroloss.wire.spectra import ANSWER_KINDS, COUNTS_ORIGINS

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64).filter(
    lambda name: not name.startswith("@")
)
runs = st.binary(min_size=16, max_size=16)
daemons = st.binary(min_size=8, max_size=8)
seqs = st.integers(0, MAX_SEQ)
positions = st.integers(0, MAX_SPECTRA)
numbers = st.floats(allow_nan=False, allow_infinity=False)
positives = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
scalars = st.one_of(
    texts, st.integers(-(1 << 63), (1 << 64) - 1), st.floats(), st.booleans(), st.none()
)


@st.composite
def scan_plans(draw):
    """Scan plans with and without a sub-scan."""
    rows = draw(st.integers(1, MAX_PIXELS))
    columns = draw(st.integers(1, MAX_PIXELS // rows))
    region = None
    if draw(st.booleans()):
        y0, x0 = draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1))
        region = (y0, x0, draw(st.integers(1, rows - y0)), draw(st.integers(1, columns - x0)))
    return ScanPlan(
        shape=(rows, columns),
        pattern=draw(st.sampled_from(PATTERNS)),
        region=region,
        passes=draw(st.none() | st.integers(1, MAX_SPECTRA)),
        dwell_s=draw(st.none() | positives),
        step=draw(st.none() | st.tuples(numbers, numbers)),
        step_unit=draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=16)),
    )


energy_ranges = st.builds(
    EnergyRange,
    name=names,
    offset_ev=numbers,
    scale_ev=positives,
    size=st.integers(1, MAX_CHANNELS),
    dtype=st.sampled_from(COUNT_DTYPES),
    saturation=st.none() | positives,
)
run_starts = st.builds(
    RunStart,
    run=runs,
    t_ns=seqs,
    scan=scan_plans(),
    ranges=st.lists(energy_ranges, min_size=1, max_size=8, unique_by=lambda item: item.name).map(
        tuple
    ),
    modality=st.sampled_from(MODALITIES),
    expected=st.none() | positions,
    beam_kev=st.none() | positives,
    convergence_mrad=st.none() | st.just(0.0) | positives,
    collection_mrad=st.none() | positives,
    title=texts,
    metadata=st.dictionaries(texts, scalars, max_size=8),
)


@st.composite
def spectra_blocks(draw):
    """Blocks of few spectra and channels, one or several ranges, with and without pixels."""
    n = draw(st.integers(1, 5))
    chosen = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    counts = {
        name: draw(hnp.arrays(draw(st.sampled_from(COUNT_DTYPES)), (n, draw(st.integers(0, 9)))))
        for name in chosen
    }
    return SpectraBlock(
        run=draw(runs),
        seq=draw(st.integers(1, MAX_SEQ)),
        t_ns=draw(seqs),
        schema=draw(daemons),
        first=draw(positions),
        counts=counts,
        pixels=draw(st.none() | hnp.arrays(np.uint32, n)),
    )


parameter_infos = st.lists(
    st.builds(ParameterInfo, name=names, value=st.none() | numbers, unit=texts), max_size=3
).map(tuple)
axes = st.builds(SpectrumAxis, offset_ev=numbers, scale_ev=positives, name=texts)


@st.composite
def output_infos(draw):
    """Outputs of all kinds."""
    return OutputInfo(
        name=draw(names),
        kind=draw(st.sampled_from(OUTPUT_KINDS)),
        shape=draw(st.lists(st.integers(1, MAX_PIXELS), max_size=4).map(tuple)),
        labels=draw(st.lists(texts, max_size=5).map(tuple)),
        unit=draw(texts),
        uncertainty=draw(st.none() | names),
        threshold=draw(st.none() | numbers),
        reason=draw(st.none() | names),
        axis=draw(st.none() | axes),
    )


packages = st.builds(
    PackageInfo,
    name=names,
    version=texts,
    sha256=texts,
    provider=texts,
    precision=st.text(st.characters(exclude_categories=["Cs"]), max_size=16),
    range_name=names,
    outputs=st.lists(output_infos(), max_size=3).map(tuple),
    parameters=parameter_infos,
    selection=st.none()
    | st.builds(SelectionInfo, name=names, labels=st.lists(texts, max_size=4).map(tuple)),
    low_loss_range=st.none() | names,
)
totals = st.builds(
    LedgerTotals,
    announced=positions,
    processed=positions,
    pending=positions,
    missed=positions,
    rejected=st.dictionaries(texts, positions, max_size=3),
    duplicates=seqs,
    foreign=seqs,
    masked_channels=seqs,
    malformed=st.dictionaries(texts, seqs, max_size=3),
)
map_opens = st.builds(
    MapOpen,
    run=runs,
    seq=seqs,
    t_ns=seqs,
    daemon=daemons,
    start=run_starts,
    packages=st.lists(packages, max_size=2).map(tuple),
    software=texts,
    config_sha256=texts,
)
map_closes = st.builds(
    MapClose,
    run=runs,
    seq=seqs,
    t_ns=seqs,
    daemon=daemons,
    status=st.sampled_from(EXIT_STATUSES),
    reason=texts,
    totals=totals,
    detected=st.dictionaries(texts, st.lists(texts, max_size=4).map(tuple), max_size=3),
)


def layers(draw, n):
    """Map layers of n pixels."""
    shapes = draw(st.dictionaries(names, st.lists(st.integers(1, 4), max_size=2), max_size=3))
    return {
        name: draw(hnp.arrays(np.float32, (n, *shape), elements=st.floats(width=32)))
        for name, shape in shapes.items()
    }


@st.composite
def map_updates(draw):
    """Updates of few pixels."""
    n = draw(st.integers(1, 5))
    return MapUpdate(
        run=draw(runs),
        seq=draw(seqs),
        t_ns=draw(seqs),
        daemon=draw(daemons),
        pixels=draw(hnp.arrays(np.uint32, n)),
        coverage=draw(hnp.arrays(np.uint8, n)),
        values=layers(draw, n),
    )


@st.composite
def snapshots(draw):
    """Pages of few pixels, of open and finished maps."""
    n = draw(st.integers(1, 5))
    return Snapshot(
        run=draw(runs),
        seq=draw(seqs),
        t_ns=draw(seqs),
        ticket=draw(seqs),
        opened=draw(map_opens),
        totals=draw(totals),
        first=draw(st.integers(0, MAX_PIXELS)),
        coverage=draw(hnp.arrays(np.uint8, n)),
        values=layers(draw, n),
        closed=draw(st.none() | map_closes),
    )


spans = st.tuples(st.integers(0, MAX_PIXELS - 1), st.integers(1, MAX_PIXELS)).filter(
    lambda pair: pair[0] < pair[1]
)


@st.composite
def spectrum_requests(draw):
    """Requests for spectra of listed pixels and of rectangles."""
    listed = draw(st.booleans())
    return Request(
        op="spectrum",
        ticket=draw(seqs),
        run=draw(st.none() | runs),
        t_ns=draw(seqs),
        what=tuple(draw(st.lists(names, max_size=4, unique=True))),
        pixels=draw(hnp.arrays(np.uint32, st.integers(1, 5))) if listed else None,
        rows=None if listed else draw(st.none() | spans),
        columns=None if listed else draw(st.none() | spans),
        parameters=draw(st.dictionaries(texts, numbers, max_size=3)),
    )


@st.composite
def spectra(draw):
    """Answers with a few arrays of any number of dimensions."""
    chosen = draw(st.lists(names, max_size=3, unique=True))
    dtypes = st.sampled_from((np.float32, np.float64))
    shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
    return Spectra(
        run=draw(runs),
        ticket=draw(seqs),
        t_ns=draw(seqs),
        pixels=draw(st.integers(1, MAX_PIXELS)),
        spectra=draw(positions),
        empty=draw(st.integers(0, MAX_PIXELS)),
        left_out=draw(st.dictionaries(texts, positions, max_size=3)),
        counts_from=draw(st.sampled_from(COUNTS_ORIGINS)),
        infos=tuple(
            SpectrumInfo(
                name=name,
                kind=draw(st.sampled_from(ANSWER_KINDS)),
                range_name=draw(names),
                unit=draw(texts),
                labels=draw(st.lists(texts, max_size=4).map(tuple)),
                axis_ev=draw(st.none() | st.tuples(numbers, numbers)),
                version=draw(texts),
                sha256=draw(texts),
                provider=draw(texts),
                precision=draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=16)),
                parameters=draw(parameter_infos),
            )
            for name in chosen
        ),
        arrays={name: draw(hnp.arrays(draw(dtypes), draw(shapes))) for name in chosen},
    )


gap_ranges = st.tuples(st.integers(0, MAX_SPECTRA - 1), st.integers(1, MAX_SPECTRA)).filter(
    lambda pair: pair[0] < pair[1]
)

messages = st.one_of(
    run_starts,
    spectra_blocks(),
    st.builds(Heartbeat, run=runs, seq=seqs, t_ns=seqs, spectra=positions),
    st.builds(
        RunEnd,
        run=runs,
        seq=st.integers(1, MAX_SEQ),
        t_ns=seqs,
        spectra=positions,
        status=st.sampled_from(EXIT_STATUSES),
        reason=texts,
    ),
    map_opens,
    map_updates(),
    st.builds(
        LedgerUpdate,
        run=runs,
        seq=seqs,
        t_ns=seqs,
        daemon=daemons,
        totals=totals,
        lag_s=numbers,
        rate_hz=numbers,
    ),
    map_closes,
    st.builds(
        Request,
        op=st.sampled_from(("snapshot", "gaps")),
        ticket=seqs,
        run=st.none() | runs,
        first=st.integers(0, MAX_PIXELS),
        t_ns=seqs,
    ),
    spectrum_requests(),
    snapshots(),
    spectra(),
    st.builds(
        Gaps,
        run=runs,
        ticket=seqs,
        t_ns=seqs,
        announced=positions,
        ranges=st.lists(gap_ranges, max_size=4).map(tuple),
        ended=st.booleans(),
        complete=st.booleans(),
    ),
    st.builds(Refusal, ticket=seqs, t_ns=seqs, reason=texts, run=st.none() | runs),
)
