"""The codec on its own messages and on everything else that may come over a socket."""

from __future__ import annotations

import struct
import tracemalloc
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.golden.samples import RASTER, SAMPLES
from tests.wire.same import same
from tests.wire.strategies import messages, scan_plans

from zeroloss.wire import EnergyRange, Fault, Heartbeat, RunStart, WireError, decode, encode
from zeroloss.wire import limits as caps

quick = settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def fault_of(parts) -> Fault:
    """The fault of a message that must be refused, by nothing but a `WireError`."""
    with pytest.raises(WireError) as caught:
        decode(parts)
    assert type(caught.value) is WireError
    assert isinstance(caught.value.fault, Fault)
    assert str(caught.value)
    assert len(str(caught.value)) < 2000
    return caught.value.fault


def decoded_or_refused(parts):
    """The message, or None where it was refused; any other exception passes on."""
    try:
        return decode(parts)
    except WireError:
        return None


def frames(name):
    """The frames of a sample and its header as a dictionary."""
    parts = [bytes(part) for part in encode(SAMPLES[name])]
    return parts, msgpack.unpackb(parts[1])


def with_header(parts, header):
    """The frames with another header."""
    return [parts[0], msgpack.packb(header), *parts[2:]]


@quick
@given(messages)
def test_round_trip(message):
    parts = encode(message)
    assert same(decode(parts), message)
    assert [bytes(part) for part in encode(decode(parts))] == [bytes(part) for part in parts]


@quick
@given(scan_plans())
def test_schema_does_not_depend_on_whole_numbers_being_integers(scan):
    whole = EnergyRange(name="core_loss", offset_ev=100, scale_ev=1, size=7, saturation=255)
    start = RunStart(run=bytes(16), t_ns=0, scan=scan, ranges=(whole,))
    assert decode(encode(start)).schema == start.schema


def test_schema_changes_with_scan_and_ranges_only():
    assert replace(RASTER, title="another", beam_kev=80.0).schema == RASTER.schema
    assert replace(RASTER, scan=replace(RASTER.scan, dwell_s=0.5)).schema != RASTER.schema
    moved = replace(RASTER.ranges[0], offset_ev=429.0)
    assert replace(RASTER, ranges=(moved,)).schema != RASTER.schema


def test_arrays_are_views_of_the_frames():
    parts = [bytes(part) for part in encode(SAMPLES["spectra_block"])]
    counts = decode(parts).counts["core_loss"]
    assert np.shares_memory(counts, np.frombuffer(parts[2], np.uint8))
    assert not counts.flags.writeable


def test_strided_and_big_endian_arrays_are_sent_right():
    block = SAMPLES["spectra_block"]
    wide = np.arange(16, dtype=">u2").reshape(2, 8)
    sent = replace(block, counts={"core_loss": wide[:, ::2]})
    np.testing.assert_array_equal(decode(encode(sent)).counts["core_loss"], wide[:, ::2])


def test_encode_refuses_a_dtype_that_is_not_carried():
    block = SAMPLES["spectra_block"]
    with pytest.raises(WireError) as caught:
        encode(replace(block, counts={"core_loss": np.ones((2, 4), np.complex64)}))
    assert caught.value.fault == Fault.DTYPE


# What is not a message.


@quick
@given(st.lists(st.binary(max_size=80), max_size=5))
def test_random_frames(parts):
    fault_of(parts)


@quick
@given(plain)
def test_random_msgpack(value):
    fault_of([b"x//", msgpack.packb(value)])


@quick
@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_random_values_in_real_headers(name, data):
    parts, header = frames(name)
    key = data.draw(st.sampled_from(sorted(header)))
    header[key] = data.draw(plain)
    decoded_or_refused(with_header(parts, header))


@quick
@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_flipped_bytes(name, data):
    parts, _ = frames(name)
    which = data.draw(st.integers(0, len(parts) - 1))
    changed = bytearray(parts[which])
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    parts[which] = bytes(changed)
    decoded_or_refused(parts)


@pytest.mark.parametrize("name", SAMPLES)
def test_truncated_headers_and_buffers(name):
    parts, _ = frames(name)
    for which in range(1, len(parts)):
        for size in {0, 1, len(parts[which]) // 2, len(parts[which]) - 1}:
            cut = [*parts]
            cut[which] = parts[which][:size]
            fault_of(cut)


@pytest.mark.parametrize("name", SAMPLES)
def test_missing_keys(name):
    parts, header = frames(name)
    # These may be absent: absent and null say the same.
    optional = {"expected", "beam_kev", "convergence_mrad", "collection_mrad", "closed"}
    optional |= {"rows", "columns", "parameters"}
    optional |= {"run"} if SAMPLES[name].KIND in ("ask", "no") else set()
    for key in header:
        without = with_header(parts, {other: header[other] for other in header if other != key})
        if key in optional:
            decoded_or_refused(without)
        else:
            assert fault_of(without) == Fault.MALFORMED


@pytest.mark.parametrize("name", SAMPLES)
def test_missing_and_extra_frames(name):
    parts, header = frames(name)
    for count in range(len(parts)):
        assert fault_of(parts[:count]) in (Fault.TRUNCATED, Fault.MALFORMED)
    assert fault_of([*parts, b"more"]) == Fault.SHAPE
    assert fault_of([*parts, *[b""] * caps.MAX_PARTS]) == Fault.OVERSIZED
    # Described but unknown buffers of the protocol's own are for a later minor version.
    header["bufs"].append({"name": "@later", "dtype": "uint8", "shape": [2], "enc": "raw"})
    assert same(decode([*with_header(parts, header), b"ab"]), SAMPLES[name])


@pytest.mark.parametrize("name", SAMPLES)
def test_unknown_keys_are_ignored(name):
    parts, header = frames(name)
    header["later"] = {"a": [1, 2, {"b": None}]}
    for key in ("scan", "totals"):
        if key in header:
            header[key]["later"] = 1
    for item in header.get("ranges", []):
        if isinstance(item, dict):
            item["later"] = "x"
    assert same(decode(with_header(parts, header)), SAMPLES[name])


@pytest.mark.parametrize("name", SAMPLES)
def test_other_versions_and_kinds(name):
    parts, header = frames(name)
    assert fault_of(with_header(parts, header | {"v": 2})) == Fault.VERSION
    assert fault_of(with_header(parts, header | {"v": 0})) == Fault.VERSION
    assert fault_of(with_header(parts, header | {"k": "teapot"})) == Fault.KIND
    # A newer version is told as such whatever else changed in it.
    assert fault_of([parts[0], msgpack.packb({"v": 2, "entirely": "new"})]) == Fault.VERSION


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"dtype": "complex64"}, Fault.DTYPE),
        ({"dtype": "object"}, Fault.DTYPE),
        ({"dtype": "O"}, Fault.DTYPE),
        ({"dtype": "int64"}, Fault.TRUNCATED),
        ({"dtype": "uint8"}, Fault.SHAPE),
        ({"dtype": 7}, Fault.MALFORMED),
        ({"enc": "lz4"}, Fault.DTYPE),
        ({"shape": [4, 2]}, Fault.SHAPE),
        ({"shape": [8]}, Fault.SHAPE),
        ({"shape": [2, 4, 1]}, Fault.SHAPE),
        ({"shape": [2, 5]}, Fault.TRUNCATED),
        ({"shape": [2, 3]}, Fault.SHAPE),
        ({"shape": [2, -4]}, Fault.MALFORMED),
        ({"shape": [2, 4.0]}, Fault.MALFORMED),
        ({"shape": [1 << 62, 1 << 62]}, Fault.OVERSIZED),
        ({"shape": [1 << 28, 1 << 28, 1 << 28, 1 << 28]}, Fault.OVERSIZED),
        ({"shape": [0, 1 << 28, 1 << 28, 1 << 28]}, Fault.OVERSIZED),
        ({"shape": [1, 1, 1, 2, 4]}, Fault.OVERSIZED),
        ({"shape": "2x4"}, Fault.MALFORMED),
        ({"name": "@counts"}, Fault.TRUNCATED),
        ({"name": "n" * 200}, Fault.OVERSIZED),
    ],
)
def test_wrong_buffers(change, fault):
    parts, header = frames("spectra_block")
    header["bufs"][0] |= change
    assert fault_of(with_header(parts, header)) == fault


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("spectra_block", {"n": 3}, Fault.SHAPE),
        ("spectra_block", {"n": 1 << 40}, Fault.OVERSIZED),
        ("spectra_block", {"n": 0}, Fault.MALFORMED),
        ("spectra_block", {"seq": 0}, Fault.MALFORMED),
        ("spectra_block", {"first": 1 << 60}, Fault.OVERSIZED),
        ("spectra_block", {"schema": b"short"}, Fault.MALFORMED),
        ("heartbeat", {"spectra": -1}, Fault.MALFORMED),
        ("heartbeat", {"spectra": True}, Fault.MALFORMED),
        ("heartbeat", {"seq": 1 << 63}, Fault.OVERSIZED),
        ("heartbeat", {"run": "text"}, Fault.MALFORMED),
        ("run_end", {"status": "splendid"}, Fault.MALFORMED),
        ("run_end", {"reason": "x" * 5000}, Fault.OVERSIZED),
        ("run_start_raster", {"seq": 1}, Fault.OVERSIZED),
        ("run_start_raster", {"ranges": []}, Fault.MALFORMED),
        ("run_start_raster", {"modality": "xps"}, Fault.MALFORMED),
        ("run_start_raster", {"beam_kev": float("nan")}, Fault.MALFORMED),
        ("run_start_raster", {"beam_kev": -1.0}, Fault.MALFORMED),
        ("run_start_raster", {"beam_kev": 0.0}, Fault.MALFORMED),
        ("run_start_raster", {"collection_mrad": 0.0}, Fault.MALFORMED),
        ("run_start_raster", {"convergence_mrad": -0.1}, Fault.MALFORMED),
        ("run_start_raster", {"convergence_mrad": float("inf")}, Fault.MALFORMED),
        ("run_start_raster", {"schema": bytes(8)}, Fault.MALFORMED),
        ("run_start_raster", {"metadata": {"a": [1]}}, Fault.MALFORMED),
        ("run_start_raster", {"metadata": {str(i): i for i in range(300)}}, Fault.OVERSIZED),
        ("map_update", {"n": 3}, Fault.SHAPE),
        ("ledger_update", {"totals": {}}, Fault.MALFORMED),
        ("ledger_update", {"lag_s": float("inf")}, Fault.MALFORMED),
        ("map_close", {"detected": [1]}, Fault.MALFORMED),
        ("gaps", {"ranges": [[5, 5]]}, Fault.MALFORMED),
        ("gaps", {"ranges": [[1, 2, 3]]}, Fault.MALFORMED),
        ("request_gaps", {"op": "shutdown"}, Fault.MALFORMED),
        ("request_spectrum_of_a_region", {"rows": [2, 2]}, Fault.MALFORMED),
        ("request_spectrum_of_a_region", {"columns": [1, 2, 3]}, Fault.MALFORMED),
        ("request_spectrum_of_a_region", {"columns": [0, 1 << 40]}, Fault.OVERSIZED),
        ("request_spectrum_of_a_region", {"what": ["@raw"]}, Fault.MALFORMED),
        ("request_spectrum_of_a_region", {"what": [""]}, Fault.MALFORMED),
        ("request_spectrum_of_a_region", {"what": ["a/b", "a/b"]}, Fault.MALFORMED),
        ("request_spectrum_of_a_region", {"what": ["x" * 200]}, Fault.MALFORMED),
        ("request_spectrum_of_a_region", {"what": ["a/b"] * 17}, Fault.OVERSIZED),
        ("request_spectrum_of_pixels", {"rows": [0, 1]}, Fault.MALFORMED),
        ("spectra", {"answers": []}, Fault.MALFORMED),
        ("spectra", {"counts_from": "memory"}, Fault.MALFORMED),
        ("spectra", {"left_out": {"why": -1}}, Fault.MALFORMED),
    ],
)
def test_wrong_fields(name, change, fault):
    parts, header = frames(name)
    assert fault_of(with_header(parts, header | change)) == fault


def test_a_parallel_beam_has_no_convergence():
    start = replace(RASTER, convergence_mrad=0.0)
    assert same(decode(encode(start)), start)


@pytest.mark.parametrize(
    ("where", "change", "fault"),
    [
        ("scan", {"shape": [0, 3]}, Fault.MALFORMED),
        ("scan", {"shape": [1 << 20, 1 << 20]}, Fault.OVERSIZED),
        ("scan", {"shape": [2]}, Fault.MALFORMED),
        ("scan", {"region": [0, 0, 3, 3]}, Fault.SHAPE),
        ("scan", {"region": [1, 1, 0, 1]}, Fault.SHAPE),
        ("scan", {"passes": 0}, Fault.MALFORMED),
        ("scan", {"dwell_s": 0.0}, Fault.MALFORMED),
        ("scan", {"pattern": "spiral"}, Fault.MALFORMED),
        ("ranges", {"size": 0}, Fault.MALFORMED),
        ("ranges", {"size": 1 << 20}, Fault.OVERSIZED),
        ("ranges", {"scale_ev": 0.0}, Fault.MALFORMED),
        ("ranges", {"scale_ev": -0.5}, Fault.MALFORMED),
        ("ranges", {"offset_ev": float("nan")}, Fault.MALFORMED),
        ("ranges", {"dtype": "int8"}, Fault.DTYPE),
        ("ranges", {"name": ""}, Fault.MALFORMED),
        ("ranges", {"name": "@pixels"}, Fault.MALFORMED),
        ("ranges", {"name": "n" * 65}, Fault.OVERSIZED),
    ],
)
def test_wrong_scans_and_ranges(where, change, fault):
    parts, header = frames("run_start_raster")
    target = header["scan"] if where == "scan" else header["ranges"][0]
    target |= change
    assert fault_of(with_header(parts, header)) == fault


def test_ranges_of_one_name():
    parts, header = frames("run_start_raster")
    header["ranges"] *= 2
    assert fault_of(with_header(parts, header)) == Fault.MALFORMED
    header["ranges"] *= 5
    assert fault_of(with_header(parts, header)) == Fault.OVERSIZED


def test_two_buffers_of_one_name():
    parts, header = frames("spectra_block")
    header["bufs"] *= 2
    assert fault_of([*with_header(parts, header), parts[2]]) == Fault.MALFORMED


def test_lists_of_asked_pixels_have_one_dimension_and_a_cap():
    asked = SAMPLES["request_spectrum_of_pixels"]
    most = np.arange(caps.MAX_ASKED_PIXELS, dtype=np.uint32)
    parts = encode(replace(asked, pixels=most))
    assert memoryview(parts[2]).nbytes <= caps.MAX_HEADER_BYTES  # what the daemon's socket takes
    assert same(decode(parts), replace(asked, pixels=most))
    beyond = np.zeros(caps.MAX_ASKED_PIXELS + 1, np.uint32)
    assert fault_of(encode(replace(asked, pixels=beyond))) == Fault.OVERSIZED
    for wrong in (most[:4].reshape(2, 2), most[:0], most[:2].astype(np.float32)):
        assert fault_of(encode(replace(asked, pixels=wrong))) == Fault.SHAPE


def test_answers_are_floats():
    answer = SAMPLES["spectra"]
    whole = {name: np.arange(4) for name in answer.arrays}
    assert fault_of(encode(replace(answer, arrays=whole))) == Fault.DTYPE


def test_long_text_of_other_scripts_fits():
    title = "スペクトル" * (caps.MAX_TEXT // 5)
    assert decode(encode(replace(RASTER, title=title))).title == title


# Never more memory than the caps allow.

HOSTILE_HEADERS = {
    "deep lists": b"\x91" * 100_000,
    "deep maps": b"\x81\xa1a" * 100_000,
    "list of 2^32": b"\xdd\xff\xff\xff\xff",
    "map of 2^32": b"\xdf\xff\xff\xff\xff",
    "text of 2^32": b"\xdb\xff\xff\xff\xff",
    "bytes of 2^32": b"\xc6\xff\xff\xff\xff",
    "extension of 2^32": b"\xc9\xff\xff\xff\xff\x05",
    "nested long lists": b"\xdc\x10\x00" * 500,
    "lists of empty lists": (b"\xdc\x10\x00" + b"\xdc\x10\x00" + b"\x90" * 4096) * 50,
    "a timestamp": msgpack.packb(msgpack.Timestamp(1, 2)),
    "an empty extension": b"\xc7\x00\x05",
    "bytes for keys": msgpack.packb({b"v": 1}),
    "numbers for keys": msgpack.packb({1: 1}),
    "broken text": b"\x81\xa1v\xa2\xff\xfe",
    "nothing": b"",
    "two objects": msgpack.packb({"v": 1}) * 2,
    "too long": bytes(caps.MAX_HEADER_BYTES + 1),
}


@pytest.mark.parametrize("what", HOSTILE_HEADERS)
def test_hostile_headers_cost_little_memory(what):
    header = HOSTILE_HEADERS[what]
    tracemalloc.start()
    try:
        fault_of([b"x//", header])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 32 << 20


def test_nesting_just_below_the_limit_of_the_parser():
    nested: object = 1
    for _ in range(400):
        nested = [nested]
    parts, header = frames("heartbeat")
    assert fault_of(with_header(parts, header | {"spectra": nested})) == Fault.MALFORMED
    assert isinstance(decode(with_header(parts, header | {"later": nested})), Heartbeat)


@pytest.mark.parametrize("shape", [[1 << 14, 1 << 14], [1 << 28], [65536, 4096]])
def test_announced_shapes_allocate_nothing(shape):
    parts, header = frames("spectra_block")
    header["bufs"][0]["shape"] = shape
    changed = with_header(parts, header)
    tracemalloc.start()
    try:
        fault_of(changed)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


def test_buffers_beyond_the_cap_are_refused_unread():
    parts, header = frames("spectra_block")
    header["bufs"][0]["shape"] = [2, 4]
    long = memoryview(np.broadcast_to(np.uint8(0), caps.MAX_BUFFER_BYTES + 1))
    assert fault_of([*with_header(parts, header)[:2], long]) == Fault.OVERSIZED


def test_topics_are_capped():
    parts, _ = frames("heartbeat")
    assert fault_of([b"t" * 65, *parts[1:]]) == Fault.OVERSIZED


@quick
@given(st.integers(0, 3), st.integers(0, (1 << 32) - 1))
def test_absurd_lengths_inside_real_headers(at, length):
    parts, _ = frames("map_open")
    header = parts[1]
    offset = [1, len(header) // 3, len(header) // 2, len(header) - 8][at]
    marker = bytes([0xDB + at]) + struct.pack(">I", length)
    decoded_or_refused([parts[0], header[:offset] + marker + header[offset + 5 :]])
