"""docs/protocol.md says what the code does: its example runs, its tables hold."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import zmq
from tests.golden.samples import SAMPLES

from zeroloss.scan import Ledger, ScanGeometry
from zeroloss.wire import (
    EnergyRange,
    Fault,
    LedgerTotals,
    RunEnd,
    RunStart,
    ScanPlan,
    SpectraBlock,
    decode,
    limits,
)
from zeroloss.wire.codec import _BY_KIND, _DTYPES

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
DEFAULT = "tcp://127.0.0.1:5550"
COMMON = {"v", "k", "run", "seq", "t_ns", "bufs"}


def section(heading):
    """The text below a heading, up to the next of any level."""
    _, found, rest = TEXT.partition(f"\n{heading}")
    assert found, f"no heading {heading!r}"
    return re.split(r"\n#{2,3} ", rest, maxsplit=1)[0]


def first_column(text):
    """The names in the first column of the tables in a text."""
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


def test_the_example_is_understood():
    (code,) = re.findall(r"```python\n(.*?)```", section("## A sender in twenty lines"), re.DOTALL)
    assert DEFAULT in code
    context = zmq.Context()
    pull = context.socket(zmq.PULL)
    pull.linger = 0
    port = pull.bind_to_random_port("tcp://127.0.0.1")
    names: dict[str, object] = {}
    try:
        exec(code.replace(DEFAULT, f"tcp://127.0.0.1:{port}"), names)
        messages = []
        while not (messages and isinstance(messages[-1], RunEnd)):
            assert pull.poll(10_000)
            messages.append(decode(pull.recv_multipart()))
    finally:
        sender = names.get("socket")
        if isinstance(sender, zmq.Socket):
            sender.close(linger=0)
            sender.context.term()
        pull.close()
        context.term()
    start, *blocks, end = messages
    assert isinstance(start, RunStart)
    ledger = Ledger()
    for seq, block in enumerate(blocks, start=1):
        assert isinstance(block, SpectraBlock)
        assert (block.run, block.seq, block.schema) == (start.run, seq, start.schema)
        counts = block.counts["core_loss"]
        assert counts.shape == (1, start.ranges[0].size)
        assert counts.dtype.name == start.ranges[0].dtype
        assert (np.diff(counts[0].astype(int)) <= 0).all()
        ledger.receive(block.first, block.first + block.n)
    assert (end.seq, end.spectra, start.expected) == (65, 64, 64)
    assert ScanGeometry(start.scan).expected == 64
    assert ledger.totals().pending == 64


def test_caps():
    told = dict(re.findall(r"^\| `(MAX_\w+)` \| (\d+) \|", section("## Caps"), re.MULTILINE))
    real = {name: value for name, value in vars(limits).items() if name.startswith("MAX_")}
    assert {name: int(value) for name, value in told.items()} == real


def test_faults():
    assert first_column(section("## Faults")) == set(Fault)


@pytest.mark.parametrize("kind", sorted(_BY_KIND))
def test_every_kind_and_its_keys(kind):
    text = section(f"### `{kind}`: ")
    told = first_column(text.split("\n`scan`:")[0] if kind == "run" else text)
    if kind == "spectra":
        told = first_column(text.split("An entry of `answers`")[0])
    if kind == "open":
        told = {"daemon"} | first_column(text.split("An entry of `packages`")[0])
    real = {
        key for message in SAMPLES.values() if kind == message.KIND for key in message.to_header()
    }
    assert told - COMMON == real


def test_nested_maps():
    run = section("### `run`: ")
    scan, _, ranges = run.partition("\n`scan`:")[2].partition("An entry of `ranges`")
    assert first_column(scan) == set(ScanPlan(shape=(1, 1)).to_header())
    assert first_column(ranges) == set(
        EnergyRange(name="a", offset_ev=0, scale_ev=1, size=1).to_header()
    )
    package = SAMPLES["map_open_with_a_selection"].packages[0]
    opened = section("### `open`: ").partition("An entry of `packages`")[2]
    assert set(re.findall(r"`(\w+)`", opened.partition("| key |")[0])) >= set(
        package.to_header()
    ) - {"outputs"}
    assert first_column(opened.partition("| key |")[2]) == set(package.outputs[0].to_header())
    answers = section("### `spectra`: ").partition("An entry of `answers`")[2]
    assert first_column(answers) == set(SAMPLES["spectra"].infos[0].to_header())
    assert first_column(section("## The ledger")) == set(LedgerTotals().to_header())


def test_order_of_the_schema_keys():
    """The hash is over maps in the order of the tables."""
    run = section("### `run`: ")
    scan, _, ranges = run.partition("\n`scan`:")[2].partition("An entry of `ranges`")
    keys = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)
    assert keys.findall(scan) == list(ScanPlan(shape=(1, 1)).to_header())
    assert keys.findall(ranges) == list(
        EnergyRange(name="a", offset_ev=0, scale_ev=1, size=1).to_header()
    )


def test_number_formats_and_common_keys():
    frames = section("## Frames")
    assert first_column(frames) == COMMON | {"name", "dtype", "shape", "enc"}
    (told,) = re.findall(r"^\| `dtype` \| text \| `([^`]+)` \|", frames, re.MULTILINE)
    assert told.split() == list(_DTYPES)


def test_links_lead_somewhere():
    anchors = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    links = set(re.findall(r"\(#([^)]+)\)", TEXT))
    assert links <= anchors
    assert links
