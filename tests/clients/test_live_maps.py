"""Live maps against a real publisher: late joiners, restarts, gaps, slow consumers."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import contextmanager, nullcontext, suppress

import numpy as np
import pytest
import zmq

from support.live import LABELS, LOW_LOSS, PACKAGES, MappedRun, make_run_start, publisher
from support.polling import DEADLINE_S, poll_until
from zeroloss.scan import Coverage
from zeroloss.wire import LedgerTotals, MapClose, MapOpen, MapUpdate, decode
from zeroloss_clients import LiveMaps, MapTooLargeError
from zeroloss_clients._follower import Follower

SHAPE = (6, 50)
PIXELS = 300


def follow(publishing, **options):
    return LiveMaps(publishing.maps_endpoint, publishing.requests_endpoint, **options)


@contextmanager
def deaf(maps, wanted):
    """What is published meanwhile is lost, until a message that is `wanted` is among it."""
    follower = maps._follower
    deafened, lost = threading.Event(), threading.Event()

    def lose():
        deafened.set()
        with suppress(zmq.Again):
            while True:
                if wanted(decode(follower._subscriber.recv_multipart(zmq.NOBLOCK))):
                    lost.set()

    # Called by the follower's thread, whose socket it is.
    follower._receive = lose
    assert deafened.wait(DEADLINE_S)
    yield
    assert lost.wait(DEADLINE_S)
    del follower._receive


def opening_after(seq):
    """Whether a message opens a run after this number."""
    return lambda message: isinstance(message, MapOpen) and message.seq > seq


def filled(run):
    return int((run.coverage == Coverage.DONE).sum())


def until_close(events):
    """The events up to the next close."""
    out = []
    for event in events:
        out.append(event)
        if event.kind == "close":
            return out
    raise AssertionError(f"no close: {[event.kind for event in out]}")


def assert_equal_maps(run, source):
    for key in run.outputs:
        np.testing.assert_array_equal(run.layer(key), source.store.layer(key))
    np.testing.assert_array_equal(run.coverage, source.store.coverage())


def test_maps_grow_and_are_closed():
    source = MappedRun(make_run_start(SHAPE))
    with publisher() as publishing, follow(publishing) as maps:
        publishing.open(source)
        run = maps.wait_for_run(10)
        source.fill(0, 120, 0.3)
        poll_until(lambda: filled(run) == 120)
        view = maps.latest()["Fe"]
        assert view.shape == SHAPE
        assert view.threshold == 0.5
        assert view.share == 1.0
        assert (~view.mask).sum() == 120
        assert np.nanmean(view) == pytest.approx(0.6)
        assert view.masked.mean() == pytest.approx(0.6)
        assert np.isnan(np.asarray(view)[-1, -1])
        assert not maps.latest()["C"].present.any()
        assert maps.latest()["elements/thickness"].values[0, 0] == pytest.approx(0.3)
        assert maps.spread("Fe").values[0, 0] == 0.125
        assert maps.elements == LABELS
        assert maps.detected == ("O", "Fe")
        assert maps.latest().shares() == {"C": 0.0, "N": 0.0, "O": 1.0, "Fe": 1.0}
        assert maps.latest().summary()["N"] == (0.0, pytest.approx(0.4))
        assert maps.provenance["packages"]["elements"]["provider"] == "CPUExecutionProvider"
        source.fill(120, PIXELS, 0.1)
        source.close()
        poll_until(lambda: run.closed is not None)
        assert_equal_maps(run, source)
        assert run.ledger.processed == PIXELS
        assert run.ledger.balanced
        assert maps.lag_s == 0.25
        assert maps.rate_hz == 1000.0
        assert run.detected == ("O", "Fe")
        # A view taken before does not change.
        assert (~view.mask).sum() == 120


def test_values_that_are_missing_say_why():
    source = MappedRun(make_run_start((2, 5)), (*PACKAGES, LOW_LOSS))
    with publisher() as publishing, follow(publishing) as maps:
        publishing.open(source)
        run = maps.wait_for_run(10)
        # The other model gave no answer for these pixels.
        source.fill_low_loss([1.5, np.nan, np.nan, 2.5], [0, 1, 2, 0])
        poll_until(lambda: filled(run) == 4)
        gap, why = run["low_loss/gap"], run["low_loss/why"]
        assert gap.labels == ()
        assert gap.mask.ravel().tolist() == [False, True, True, False] + [True] * 6
        assert float(gap.masked.mean()) == 2.0
        assert why.labels == ("given", "metal", "vacuum")
        assert why.label_shares == {"given": 0.5, "metal": 0.25, "vacuum": 0.25}
        np.testing.assert_array_equal(run.reason("low_loss/gap"), why)
        assert run.spread("low_loss/gap").values[0, 0] == pytest.approx(0.15)
        with pytest.raises(KeyError, match="'elements/thickness' states no reason"):
            run.reason("elements/thickness")
        with pytest.raises(ValueError, match="'low_loss/gap' holds values"):
            _ = gap.label_shares
        assert run["Fe"].mask.all()
        assert run["Fe"].share == 0.0
        assert run.summary()["Fe"] == (0.0, 0.0)
        source.fill(4, 10, 0.3)
        poll_until(lambda: filled(run) == 10)
        assert run["Fe"].share == pytest.approx(0.6)
        assert run.summary()["Fe"] == (pytest.approx(0.6), pytest.approx(0.6))
        assert run["low_loss/why"].label_shares["given"] == pytest.approx(0.2)
        assert run.detected == ("O", "Fe")


def test_a_late_joiner_has_the_whole_map_at_once():
    source = MappedRun(make_run_start(SHAPE))
    with publisher() as publishing:
        publishing.open(source)
        source.fill(0, 150, 0.3)
        poll_until(lambda: publishing.seq >= 2)
        with follow(publishing) as maps:
            run = maps.wait_for_run(10)
            assert filled(run) == 150
            source.fill(150, PIXELS, 0.7)
            poll_until(lambda: filled(run) == PIXELS)
            assert_equal_maps(run, source)


def test_a_finished_map_is_there_for_who_comes_after():
    source = MappedRun(make_run_start(SHAPE))
    with publisher() as publishing:
        publishing.open(source)
        source.fill(0, PIXELS, 0.45)
        source.close()
        poll_until(lambda: publishing.seq >= 4)
        with follow(publishing) as maps:
            kinds = []
            for event in maps.events(timeout=10):
                kinds.append(event.kind)
                if event.kind == "close":
                    break
            assert kinds[0] == "open"
            assert_equal_maps(event.run, source)
            assert event.run.detected == ("N", "O", "Fe")


def test_a_snapshot_of_many_pages_while_the_map_is_written():
    shape = (1200, 1000)  # 50 MB: several pages of 16 MiB
    source = MappedRun(make_run_start(shape))
    with publisher() as publishing:
        publishing.open(source)
        source.fill(0, 600_000, 0.2)
        poll_until(lambda: publishing.seq >= 2)
        with follow(publishing) as maps:
            run = maps.wait_for_run(10)
            source.fill(500_000, 900_000, 0.6)
            source.fill(1000, 2000, 0.9)
            source.close()
            poll_until(lambda: run.closed is not None)
            poll_until(lambda: filled(run) == 900_000)
            assert_equal_maps(run, source)


def test_events_melt_together_for_a_slow_iterator():
    source = MappedRun(make_run_start(SHAPE))
    with publisher() as publishing, follow(publishing) as maps:
        publishing.open(source)
        run = maps.wait_for_run(10)
        events = maps.events(timeout=10)
        for begin in range(0, PIXELS, 50):
            source.fill(begin, begin + 50, 0.3)
            poll_until(lambda begin=begin: filled(run) == begin + 50)
        source.close()
        poll_until(lambda: run.closed is not None)
        seen = [next(events) for _ in range(3)]
        assert [event.kind for event in seen] == ["open", "update", "close"]
        np.testing.assert_array_equal(seen[1].pixels, np.arange(PIXELS))


def test_callbacks_come_in_order_and_survive_their_own_errors(caplog):
    source = MappedRun(make_run_start(SHAPE))
    with publisher() as publishing:
        with follow(publishing) as maps:
            kinds = []

            @maps.on_update
            def note(event):
                kinds.append((event.kind, threading.current_thread().name))
                if event.kind == "open":
                    raise ValueError("a mistake in a callback")

            publishing.open(source)
            source.fill(0, PIXELS, 0.3)
            source.close()
            poll_until(lambda: bool(kinds) and kinds[-1][0] == "close")
        assert kinds[0][0] == "open"
        assert {kind for kind, _ in kinds} == {"open", "update", "close"}
        assert {name for _, name in kinds} == {"zeroloss-maps-callback"}
        assert "a mistake in a callback" in caplog.text


def test_a_restarted_daemon_goes_on_with_the_same_run():
    start = make_run_start(SHAPE)
    source = MappedRun(start)
    with publisher() as publishing:
        maps = follow(publishing)
        publishing.open(source)
        source.fill(0, 150, 0.3)
        run = maps.wait_for_run(10)
        poll_until(lambda: filled(run) == 150)
    again = MappedRun(start)
    again.fill(0, 100, 0.8)
    with maps, publisher(publishing.maps_endpoint, publishing.requests_endpoint) as restarted:
        restarted.open(again)
        poll_until(lambda: filled(run) == 100)
        assert_equal_maps(run, again)
        again.fill(100, PIXELS, 0.1)
        again.close()
        poll_until(lambda: run.closed is not None)
        assert_equal_maps(run, again)
        assert maps.run is run


@pytest.mark.parametrize("missed", [False, True])
def test_a_run_that_goes_on_after_its_close_is_live_again(missed):
    start = make_run_start(SHAPE)
    source = MappedRun(start)
    with publisher() as publishing, follow(publishing) as maps:
        events = maps.events(timeout=10)
        publishing.open(source)
        source.fill(0, 150, 0.3)
        source.close()
        run = maps.wait_for_run(10)
        assert until_close(events)[0].kind == "open"
        again = MappedRun(start)
        again.fill(0, 150, 0.3)
        # Where the new opening goes by unheard, it is learnt from the snapshot.
        with deaf(maps, opening_after(publishing.seq)) if missed else nullcontext():
            publishing.open(again)
        poll_until(lambda: run.closed is None)
        again.fill(150, PIXELS, 0.8)
        again.close()
        poll_until(lambda: run.closed is not None)
        assert_equal_maps(run, again)
        assert run.ledger.processed == PIXELS
        assert maps.run is run
        assert {event.kind for event in until_close(events)} == {"update", "close"}


@pytest.mark.parametrize("missed", [False, True])
def test_a_run_that_goes_on_with_other_models_is_a_new_one(missed):
    start = make_run_start((2, 2))
    source = MappedRun(start)
    with publisher() as publishing, follow(publishing) as maps:
        events = maps.events(timeout=10)
        publishing.open(source)
        source.fill(0, 3, 0.3)
        source.close()
        before = until_close(events)[-1].run
        again = MappedRun(start, (LOW_LOSS,))
        with deaf(maps, opening_after(publishing.seq)) if missed else nullcontext():
            publishing.open(again)
        again.fill_low_loss([1.5] * 4, [0] * 4)
        again.close()
        told = until_close(events)
        run = told[-1].run
        assert told[0].kind == "open"
        assert maps.run is run is not before
        assert_equal_maps(run, again)
        assert_equal_maps(before, source)
        assert before.closed.totals.processed == 3


def test_a_close_is_not_that_of_the_same_run_with_other_models():
    start = make_run_start((2, 2))
    daemon = {"run": start.run, "daemon": bytes(8)}
    told = []
    with zmq.Context() as context:
        follower = Follower(
            context, "inproc://maps", "inproc://requests", 1 << 20, lambda *item: told.append(item)
        )

        def opened(seq, packages):
            return MapOpen(
                **daemon,
                seq=seq,
                t_ns=seq,
                start=start,
                packages=packages,
                software="test",
                config_sha256="c" * 64,
            )

        first, second = opened(1, PACKAGES), opened(3, (LOW_LOSS,))
        follower._apply(first)
        # Not told yet: something of the map is still being fetched.
        follower._apply(
            MapClose(
                **daemon,
                seq=2,
                t_ns=2,
                status="success",
                reason="",
                totals=LedgerTotals(),
                detected={},
            )
        )
        follower._apply(second)
        # An older one, as from a page of a snapshot that was asked for before.
        follower._apply(first)
        follower._wanted.clear()
        follower._close_complete()
        follower.stop.set()
        follower.run()
    assert [kind for kind, *_ in told] == ["open", "open"]
    run = follower.runs[start.run]
    assert run.opened == second
    assert run.closed is None


def test_a_restarted_daemon_without_the_run_leaves_the_maps_as_they_were():
    source = MappedRun(make_run_start(SHAPE))
    with publisher() as publishing:
        maps = follow(publishing)
        publishing.open(source)
        source.fill(0, 150, 0.3)
        run = maps.wait_for_run(10)
        poll_until(lambda: filled(run) == 150)
    other = MappedRun(make_run_start((3, 4)))
    with maps, publisher(publishing.maps_endpoint, publishing.requests_endpoint) as restarted:
        restarted.open(other)
        assert maps.wait_for_run(10, after=run).shape == (3, 4)
        assert filled(run) == 150
        assert run.closed is None


def test_lost_messages_are_noticed_and_mended():
    source = MappedRun(make_run_start(SHAPE))
    with publisher() as publishing, follow(publishing) as maps:
        publishing.open(source)
        run = maps.wait_for_run(10)
        source.fill(0, 10, 0.3)
        poll_until(lambda: filled(run) == 10)
        with deaf(maps, lambda message: isinstance(message, MapUpdate) and 10 in message.pixels):
            source.fill(10, 200, 0.6)
        poll_until(lambda: filled(run) == 200)
        source.fill(200, PIXELS, 0.2)
        source.close()
        poll_until(lambda: run.closed is not None)
        assert_equal_maps(run, source)


def test_runs_follow_each_other():
    with publisher() as publishing, follow(publishing) as maps:
        before = None
        for shape in [(2, 3), (4, 5), (6, 7)]:
            source = MappedRun(make_run_start(shape))
            publishing.open(source)
            source.fill(0, shape[0] * shape[1], 0.6)
            source.close()
            run = maps.wait_for_run(10, after=before)
            poll_until(lambda run=run: run.closed is not None)
            assert run.shape == shape
            before = run
        assert len(maps._follower.runs) == 1


def test_waiting_for_a_run_that_does_not_come():
    with publisher() as publishing, follow(publishing) as maps:
        poll_until(lambda: maps.connected)
        with pytest.raises(TimeoutError, match=r"no run came within 0\.1 s$"):
            maps.wait_for_run(0.1)
        with pytest.raises(LookupError, match="wait_for_run"):
            maps.latest()
    with LiveMaps("tcp://127.0.0.1:9", "tcp://127.0.0.1:9") as maps:
        with pytest.raises(TimeoutError, match="the daemon cannot be heard"):
            maps.wait_for_run(0.1)
        assert not maps.connected
    with pytest.raises(OSError, match="cannot follow the maps at nowhere"):
        LiveMaps("nowhere")


def test_a_map_beyond_the_memory_bound_is_refused_in_words():
    source = MappedRun(make_run_start((500, 500)))
    with publisher() as publishing, follow(publishing, memory_bytes=1 << 20) as maps:
        publishing.open(source)
        poll_until(lambda: bool(maps._follower.problem))
        with pytest.raises(TimeoutError, match="raise memory_bytes"):
            maps.wait_for_run(0.1)
        assert issubclass(MapTooLargeError, MemoryError)


def test_unknown_names_are_answered_with_the_known_ones():
    source = MappedRun(make_run_start(SHAPE))
    with publisher() as publishing, follow(publishing) as maps:
        publishing.open(source)
        run = maps.wait_for_run(10)
        with pytest.raises(KeyError, match="C, N, O, Fe"):
            run["Xx"]
        with pytest.raises(KeyError, match=r"use layer\('elements/probability'\)"):
            run["elements/probability"]
        with pytest.raises(KeyError, match="no uncertainty"):
            run.spread("elements/thickness")
        with pytest.raises(KeyError, match="elements/probability, elements/spread"):
            run.layer("nothing")
        with pytest.raises(ValueError, match="not a probability"):
            _ = run["elements/thickness"].present


def test_maps_become_a_hyperspy_signal():
    pytest.importorskip("hyperspy.api")
    source = MappedRun(make_run_start(SHAPE))
    with publisher() as publishing, follow(publishing) as maps:
        publishing.open(source)
        source.fill(0, PIXELS, 0.3)
        source.close()
        run = maps.wait_for_run(10)
        poll_until(lambda: run.closed is not None)
        signal = run.to_hyperspy()
        assert signal.data.shape == (2, *SHAPE)
        x, y = signal.axes_manager.signal_axes
        assert (x.name, x.scale, x.units) == ("x", 0.25, "nm")
        assert (y.name, y.scale, y.units) == ("y", 0.5, "nm")
        assert signal.metadata.zeroloss.labels == ["O", "Fe"]
        np.testing.assert_array_equal(signal.data[1], run["Fe"].values)


def test_hyperspy_that_is_missing_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "hyperspy", None)
    monkeypatch.setitem(sys.modules, "hyperspy.api", None)
    source = MappedRun(make_run_start(SHAPE))
    with publisher() as publishing, follow(publishing) as maps:
        publishing.open(source)
        with pytest.raises(ImportError, match=r'pip install "zeroloss\[hyperspy\]"'):
            maps.wait_for_run(10).to_hyperspy(("C",))


def test_the_client_core_needs_numpy_pyzmq_and_msgpack_only():
    code = (
        "import sys, zeroloss_clients, zeroloss_clients.microscope\n"
        "heavy = {'torch', 'onnxruntime', 'pydantic', 'h5py', 'rich', 'hyperspy', 'rsciio'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert out.stdout.strip() == "[]"
