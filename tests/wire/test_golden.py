"""The bytes of every kind of message are what they were when the version was released."""

from __future__ import annotations

import pytest
from tests.golden.frames import FOLDER, pack, unpack
from tests.golden.samples import OLDER, SAMPLES
from tests.wire.same import same

from zeroloss.wire import PROTOCOL_VERSION, Fault, WireError, decode, encode
from zeroloss.wire.codec import _BY_KIND

CURRENT = FOLDER / f"v{PROTOCOL_VERSION}"


@pytest.mark.parametrize("name", SAMPLES)
def test_encode_gives_exactly_the_golden_bytes(name):
    assert pack(encode(SAMPLES[name])) == (CURRENT / f"{name}.bin").read_bytes()


@pytest.mark.parametrize("name", SAMPLES)
def test_decode_reads_the_golden_bytes(name):
    message = decode(unpack((CURRENT / f"{name}.bin").read_bytes()))
    assert same(message, SAMPLES[name])


@pytest.mark.parametrize("name", OLDER)
def test_decode_reads_bytes_from_before_some_keys_were_there(name):
    message = decode(unpack((CURRENT / "older" / f"{name}.bin").read_bytes()))
    assert same(message, OLDER[name])


def test_every_older_file_has_a_sample():
    assert {path.stem for path in (CURRENT / "older").glob("*.bin")} == set(OLDER)


def test_every_kind_has_golden_bytes_and_every_file_a_sample():
    assert {message.KIND for message in SAMPLES.values()} == set(_BY_KIND)
    assert {path.stem for path in CURRENT.glob("*.bin")} == set(SAMPLES)


def test_other_versions_are_refused_as_such():
    for path in FOLDER.glob("v*/*.bin"):
        if path.parent == CURRENT:
            continue
        with pytest.raises(WireError) as caught:
            decode(unpack(path.read_bytes()))
        assert caught.value.fault == Fault.VERSION


@pytest.mark.parametrize("name", SAMPLES)
def test_topics_serve_prefix_filters(name):
    message = SAMPLES[name]
    topic, *_ = unpack((CURRENT / f"{name}.bin").read_bytes())
    run = b"" if message.run is None else message.run.hex()[:8].encode()
    assert topic == message.KIND.encode() + b"/" + run + b"/"
