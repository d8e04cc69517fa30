"""The simulated specimen and the path of the beam over it."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from support.live import Receiver
from zeroloss.scan import ScanGeometry
from zeroloss_clients.microscope import (
    Acquisition,
    FaultPlan,
    Readout,
    Specimen,
    SpecimenError,
    StreamSender,
    Timed,
    block_size,
    stream,
)

SHAPE = (4, 5)


def arrays(**changes):
    fields = {
        "title": np.array("two halves"),
        "elements": np.array(["O", "Fe"]),
        "members": np.array(["left", "right"]),
        "contains": np.array(["O", "O Fe"]),
        "abundance": np.stack([np.tri(*SHAPE), 1 - np.tri(*SHAPE)]),
        "ranges": np.array(["low_loss", "core_loss"]),
        "spectra_low_loss": np.full((2, 6), 50.0),
        "axis_low_loss": np.array([-5.0, 0.5]),
        "spectra_core_loss": np.stack([np.full(8, 100.0), np.full(8, 900.0)]),
        "axis_core_loss": np.array([500.0, 1.0]),
        "dwell_s": np.array(0.01),
        "step": np.array([0.5, 0.25]),
        "step_unit": np.array("nm"),
        "beam_kev": np.array(200.0),
        "convergence_mrad": np.array(20.0),
        "collection_mrad": np.array(40.0),
    }
    return fields | changes


@pytest.fixture
def specimen(tmp_path):
    path = tmp_path / "two.npz"
    np.savez(path, **arrays())
    return Specimen.load(path)


def gathered(acquisition, limit=None):
    """All counts of a run by position, and its pixels where it lists them."""
    counts, pixels, at = [], [], 0
    for item in acquisition:
        assert item.first == at
        at += len(item.readout)
        counts.append(item.readout.counts["core_loss"])
        pixels.append(item.readout.pixels)
        if limit is not None and at >= limit:
            break
    return np.concatenate(counts), pixels


def test_the_shipped_specimen_is_what_the_demo_promises():
    shipped = Specimen.shipped()
    assert set(shipped.elements) == {"O", "Ti", "Mn", "Fe", "La"}
    np.testing.assert_allclose(shipped.abundance.sum(axis=0), 1.0, atol=1e-5)
    assert shipped.share("O") == 1.0
    assert 0.05 < shipped.share("Fe") < shipped.share("Mn") < shipped.share("Ti") < 1.0
    assert shipped.share("Ca") == 0.0
    with pytest.raises(SpecimenError, match="superlattice"):
        Specimen.shipped("unobtainium")


def test_counts_are_poisson_about_the_mean_and_fresh_at_every_scan(specimen):
    first, _ = gathered(Acquisition(specimen, passes=200, paced=False))
    second, _ = gathered(Acquisition(specimen, passes=200, paced=False))
    assert first.dtype == np.uint32
    assert not np.array_equal(first, second)
    truth = specimen.mean_counts("core_loss", np.arange(20), 0.01)
    per_pixel = first.reshape(200, 20, 8)
    np.testing.assert_allclose(per_pixel.mean(axis=0), truth, rtol=0.1)
    np.testing.assert_allclose(per_pixel.var(axis=0).mean(), truth.mean(), rtol=0.1)


def test_the_same_seed_gives_the_same_run_and_any_part_of_it_again(specimen):
    acquisition = Acquisition(specimen, passes=7, seed=11)
    whole, _ = gathered(acquisition)
    again, _ = gathered(Acquisition(specimen, passes=7, seed=11, paced=False))
    np.testing.assert_array_equal(whole, again)
    for begin, end in [(0, 140), (3, 4), (60, 70), (63, 129)]:
        pieces = list(acquisition.read(begin, end))
        assert pieces[0][0] == begin
        part = np.concatenate([readout.counts["core_loss"] for _, readout in pieces])
        np.testing.assert_array_equal(part, whole[begin:end])


@pytest.mark.parametrize("pattern", ["raster", "serpentine", "list"])
@pytest.mark.parametrize("region", [None, (1, 2, 3, 2)])
def test_every_pattern_sees_every_pixel_of_its_region_at_the_right_place(specimen, pattern, region):
    acquisition = Acquisition(specimen, pattern=pattern, region=region, seed=2, passes=2)
    counts, pixels = gathered(acquisition)
    visited = (
        np.concatenate(pixels)
        if pattern == "list"
        else ScanGeometry(acquisition.start.scan).pixel_of(np.arange(len(counts)))
    )
    rows, columns = np.divmod(visited, SHAPE[1])
    assert acquisition.start.expected == len(counts) == acquisition.total
    y0, x0, height, width = region or (0, 0, *SHAPE)
    inside = {(y, x) for y in range(y0, y0 + height) for x in range(x0, x0 + width)}
    assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == inside
    left = np.tri(*SHAPE)[rows, columns] > 0.5
    assert (counts[left].mean(axis=1) < 500).all()
    assert (counts[~left].mean(axis=1) > 500).all()


def test_an_endless_run_goes_on(specimen):
    acquisition = Acquisition(specimen, passes=None)
    assert acquisition.start.expected is None
    assert acquisition.start.scan.passes is None
    counts, _ = gathered(acquisition, limit=200)
    assert len(counts) >= 200


def test_ranges_can_be_chosen(specimen):
    both = Acquisition(specimen)
    assert [item.name for item in both.start.ranges] == ["low_loss", "core_loss"]
    one = Acquisition(specimen, ranges=["low_loss"], dwell_s=0.002)
    assert set(next(iter(one)).readout.counts) == {"low_loss"}
    assert next(iter(one)).readout.counts["low_loss"].mean() == pytest.approx(10, rel=0.5)
    with pytest.raises(SpecimenError, match="it has low_loss, core_loss"):
        Acquisition(specimen, ranges=["middle"])
    with pytest.raises(SpecimenError, match="does not fit"):
        Acquisition(specimen, region=(0, 0, 9, 9))


def test_another_shape_shows_the_same_specimen(specimen):
    finer = Acquisition(specimen, shape=(8, 10)).specimen
    assert finer.shape == (8, 10)
    assert finer.step == (0.25, 0.125)
    np.testing.assert_allclose(finer.abundance.sum(axis=0), 1.0)
    np.testing.assert_allclose(finer.abundance[0].mean(), np.tri(*SHAPE).mean(), atol=0.05)
    assert finer.abundance[0, -1, 0] == 1.0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"abundance": np.ones((3, 4, 5))}, "2 members, abundance"),
        ({"abundance": -np.ones((2, 4, 5))}, "finite, from 0 on"),
        ({"spectra_core_loss": np.ones((2, 8)) * np.nan}, "finite, from 0 on"),
        ({"spectra_core_loss": np.ones(8)}, r"expected \[2, channels\]"),
        ({"axis_core_loss": np.array([500.0, -1.0])}, "falls"),
        ({"contains": np.array(["O"])}, "1 lists of elements"),
        ({"ranges": np.array([])}, "0 energy ranges"),
        ({"members": np.array([{"a": 1}], dtype=object)}, "pickle"),
    ],
)
def test_a_bad_specimen_file_is_one_sentence(tmp_path, changes, sentence):
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays(**changes))
    with pytest.raises(SpecimenError, match=sentence):
        Specimen.load(path)


def test_what_is_no_specimen_file_is_said(tmp_path):
    path = tmp_path / "text.npz"
    path.write_bytes(b"not a zip")
    with pytest.raises(SpecimenError, match="not a specimen file"):
        Specimen.load(path)
    with pytest.raises(SpecimenError, match="no specimen file"):
        Specimen.load(tmp_path / "absent.npz")


def test_blocks_hold_up_to_256_spectra_or_5_ms():
    assert block_size(None) == 256
    assert block_size(0.1) == 1
    assert block_size(0.001) == 5
    assert block_size(1e-6) == 256


def test_spectra_are_sent_when_they_are_due():
    items = [Timed(n, Readout({"core": np.zeros((1, 8), np.uint32)}), 0.03 * n) for n in range(5)]

    class Clocked:
        def __init__(self):
            self.sent = []

        def send(self, first, counts, pixels):
            self.sent.append(time.monotonic() - began)

    clocked = Clocked()
    began = time.monotonic()
    assert stream(items, clocked)
    assert all(at >= 0.03 * n for n, at in enumerate(clocked.sent))


def test_a_stopped_scan_ends_at_once(specimen):
    stop = threading.Event()
    reached = []

    def note(position):
        reached.append(position)
        stop.set()

    with Receiver() as receiver:
        acquisition = Acquisition(specimen, passes=None)
        sender = StreamSender(
            acquisition.start,
            receiver.endpoint,
            requests=receiver.requests,
            reread=acquisition.read,
        )
        assert not stream(acquisition, sender, stop=stop, on_progress=note)
        report = sender.finish("abort", "stopped by the user")
        assert report.complete is True
        assert report.spectra == reached[-1] == len(receiver.kept)
        assert receiver.ends[0].status == "abort"


def test_a_whole_scan_arrives_through_a_bad_network(specimen):
    with Receiver() as receiver:
        acquisition = Acquisition(specimen, pattern="list", passes=30, paced=False, seed=4)
        sender = StreamSender(
            acquisition.start,
            receiver.endpoint,
            requests=receiver.requests,
            reread=acquisition.read,
            faults=FaultPlan.parse(["drop=0.2", "corrupt=0.1", "reorder=0.1", "duplicate=0.1"]),
        )
        assert stream(acquisition, sender)
        assert sender.finish().complete is True
        assert len(receiver.pixels) == 600
    for first, readout in acquisition.read(0, 600):
        for n, counts in enumerate(readout.counts["low_loss"]):
            # The receiver keeps the first range.
            np.testing.assert_array_equal(receiver.kept[first + n], counts)
            assert receiver.pixels[first + n] == readout.pixels[n]
