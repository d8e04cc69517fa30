from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from support.published_runs import LABELS, PROBABILITY, SPREAD, package, run_start
from zeroloss.maps import MapFileError, MapStore, write_hspy
from zeroloss.scan import Coverage
from zeroloss.wire import LedgerTotals, OutputInfo

TOTALS = LedgerTotals(
    announced=12, processed=10, missed=1, rejected={"saturated": 1}, malformed={"dtype": 3}
)
PROVENANCE: dict[str, str | bool] = {
    "software": "zeroloss 0",
    "config_sha256": "ab" * 32,
    "replayed": False,
}
DETECTED = {PROBABILITY: ("O", "B", "glass")}


def filled() -> MapStore:
    start = replace(
        run_start((3, 4)),
        t_ns=1_700_000_000_000_000_000,
        beam_kev=300.0,
        convergence_mrad=21.0,
        collection_mrad=33.0,
        metadata={"operator": "N. N.", "_list_x/y\0": 7, "_list_x_y_": None},
    )
    info = package()
    thickness = OutputInfo(name="thickness", kind="scalar", shape=(), unit="t/λ")
    store = MapStore(start, (replace(info, outputs=(*info.outputs, thickness)),))
    rng = np.random.default_rng(5)
    pixels = np.arange(10, dtype=np.uint32)
    store.write(
        pixels,
        {
            PROBABILITY: rng.random((10, len(LABELS)), dtype=np.float32),
            SPREAD: rng.random((10, len(LABELS)), dtype=np.float32),
            "elements/thickness": rng.random(10, dtype=np.float32),
        },
        np.zeros(10, np.int64),
    )
    store.mark(np.array([11], np.uint32), Coverage.LOST)
    return store


@pytest.fixture(scope="module")
def store() -> MapStore:
    return filled()


@pytest.fixture(scope="module")
def signals(store: MapStore, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    hs = pytest.importorskip("hyperspy.api", reason="HyperSpy is not installed")
    path = tmp_path_factory.mktemp("maps") / "map.hspy"
    write_hspy(path, store, PROVENANCE, TOTALS, DETECTED, share=0.02)
    loaded = hs.load(path)
    return {signal.metadata.Zeroloss.layer: signal for signal in loaded}


def test_hyperspy_opens_every_layer(signals: dict[str, Any]) -> None:
    assert list(signals) == [
        PROBABILITY,
        f"{PROBABILITY}/presence",
        SPREAD,
        "elements/thickness",
        "coverage",
    ]
    assert {type(signal).__name__ for signal in signals.values()} == {"Signal2D"}
    assert signals[PROBABILITY].metadata.General.title == "a test scan: elements probability"


def test_axes_have_names_units_and_steps(signals: dict[str, Any]) -> None:
    manager = signals[PROBABILITY].axes_manager
    assert [(axis.name, axis.size) for axis in manager.navigation_axes] == [("label", 4)]
    assert [(axis.name, axis.size, axis.scale, axis.units) for axis in manager.signal_axes] == [
        ("x", 4, 0.25, "nm"),
        ("y", 3, 0.5, "nm"),
    ]
    assert signals["elements/thickness"].axes_manager.navigation_dimension == 0


def test_values_are_those_of_the_map(signals: dict[str, Any], store: MapStore) -> None:
    probability = store.layer(PROBABILITY)
    stack = np.moveaxis(probability, -1, 0)
    np.testing.assert_array_equal(signals[PROBABILITY].data, stack)
    presence = signals[f"{PROBABILITY}/presence"].data
    np.testing.assert_array_equal(np.isnan(presence), np.isnan(stack))
    np.testing.assert_array_equal(presence == 1, stack >= 0.5)
    np.testing.assert_array_equal(
        signals["elements/thickness"].data, store.layer("elements/thickness")
    )
    assert signals["coverage"].data.dtype == np.uint8
    np.testing.assert_array_equal(signals["coverage"].data, store.coverage())


def test_the_labels_say_what_each_image_is(signals: dict[str, Any]) -> None:
    assert list(signals[PROBABILITY].metadata.Zeroloss.labels) == list(LABELS)
    about = signals[PROBABILITY].metadata.Zeroloss
    assert about.kind == "probability"
    assert about.threshold == 0.5
    assert about.uncertainty == "spread"
    assert signals["elements/thickness"].metadata.Zeroloss.unit == "t/λ"
    assert signals["elements/thickness"].metadata.Signal.quantity == "Thickness (t/λ)"
    assert signals["coverage"].metadata.Zeroloss.codes.lost == Coverage.LOST


def test_a_masked_value_says_where_its_reason_is(tmp_path: Path) -> None:
    hs = pytest.importorskip("hyperspy.api", reason="HyperSpy is not installed")
    gap = OutputInfo(name="gap", kind="scalar", shape=(), unit="eV", reason="why")
    why = OutputInfo(name="why", kind="label", shape=(), labels=("given", "no gap", "vacuum"))
    peaks = OutputInfo(name="peaks", kind="scalar", shape=(2, 3), labels=("height", "width"))
    info = replace(package(), name="low", outputs=(gap, why, peaks))
    store = MapStore(run_start((1, 3)), (info,))
    values = {
        "low/gap": np.array([1.5, np.nan, np.nan], np.float32),
        "low/why": np.array([0, 2, 1], np.float32),
        "low/peaks": np.arange(18, dtype=np.float32).reshape(3, 2, 3),
    }
    store.write(np.arange(3, dtype=np.uint32), values, np.zeros(3, np.int64))
    write_hspy(tmp_path / "map.hspy", store, PROVENANCE, TOTALS, {})
    signals = {item.metadata.Zeroloss.layer: item for item in hs.load(tmp_path / "map.hspy")}
    np.testing.assert_array_equal(signals["low/gap"].data, [values["low/gap"]])
    np.testing.assert_array_equal(signals["low/why"].data, [values["low/why"]])
    assert signals["low/gap"].metadata.Zeroloss.reason == "why"
    about = signals["low/why"].metadata.Zeroloss
    assert (about.kind, list(about.labels)) == ("label", ["given", "no gap", "vacuum"])
    axes = signals["low/peaks"].axes_manager.navigation_axes
    assert [(axis.name, axis.size) for axis in axes] == [("index_1", 3), ("label", 2)]


def test_the_file_says_what_made_it(signals: dict[str, Any], store: MapStore) -> None:
    for signal in signals.values():
        about = signal.metadata.Zeroloss
        assert about.run.uid == store.start.run.hex()
        assert about.provenance.config_sha256 == "ab" * 32
        assert about.provenance.replayed is False
        assert about.energy_ranges.core.offset_ev == 100.0
        assert about.energy_ranges.core.scale_ev == 1.0
        assert about.energy_ranges.core.size == 64
        assert list(about.scan.shape) == [3, 4]
    made_by = signals[PROBABILITY].metadata.Zeroloss.package
    assert (made_by.name, made_by.version, made_by.sha256) == ("elements", "1", "0" * 64)
    assert (made_by.provider, made_by.precision) == ("CPUExecutionProvider", "float32")


def test_the_ledger_and_the_detected_elements_are_kept(signals: dict[str, Any]) -> None:
    for signal in signals.values():
        ledger = signal.metadata.Zeroloss.ledger
        assert (ledger.announced, ledger.processed, ledger.missed) == (12, 10, 1)
        assert ledger.rejected.saturated == 1
        assert ledger.malformed.dtype == 3
        assert list(signal.metadata.Sample.elements) == ["B", "O"]
        assert list(signal.metadata.Zeroloss.detected.elements.probability) == ["O", "B", "glass"]
        assert signal.metadata.Zeroloss.detected_share == 0.02


def test_the_microscope_stands_where_hyperspy_looks_for_it(signals: dict[str, Any]) -> None:
    metadata = signals[PROBABILITY].metadata
    tem = metadata.Acquisition_instrument.TEM
    assert (tem.beam_energy, tem.convergence_angle) == (300.0, 21.0)
    assert tem.Detector.EELS.collection_angle == 33.0
    assert (metadata.General.date, metadata.General.time) == ("2023-11-14", "22:13:20")


def test_hostile_metadata_keys_lose_their_meaning_but_not_their_value(
    signals: dict[str, Any],
) -> None:
    kept = signals["coverage"].metadata.Zeroloss.run.metadata.as_dictionary()
    assert kept == {"operator": "N. N.", "list_x_y": 7, "list_x_y_": None}


def test_an_unscaled_line_scan_opens(tmp_path: Path) -> None:
    hs = pytest.importorskip("hyperspy.api", reason="HyperSpy is not installed")
    start = run_start((1, 7))
    start = replace(start, scan=replace(start.scan, step=None))
    path = tmp_path / "line.hspy"
    write_hspy(path, MapStore(start, (package(),)), {}, LedgerTotals(), {})
    signal = hs.load(path)[0]
    assert signal.data.shape == (4, 1, 7)
    assert np.isnan(signal.data).all()
    assert signal.axes_manager["x"].units == "px"
    assert signal.metadata.Sample.elements == []


def test_an_older_file_is_replaced_in_one_step(store: MapStore, tmp_path: Path) -> None:
    path = tmp_path / "map.hspy"
    path.write_bytes(b"older")
    write_hspy(path, store, PROVENANCE, TOTALS, DETECTED)
    assert h5py.is_hdf5(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_one_sentence(store: MapStore, tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "map.hspy"
    with pytest.raises(MapFileError, match="could not be written") as caught:
        write_hspy(path, store, PROVENANCE, TOTALS, DETECTED)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from support.published_runs import package, run_start
from zeroloss.maps import MapFileError, MapStore, write_hspy
from zeroloss.wire import LedgerTotals

store = MapStore(run_start((256, 256)), (package(),))
n = store.pixels
rng = np.random.default_rng(1)
layers = {key: rng.random((n, 4), dtype=np.float32) for key in store.layers}
store.write(np.arange(n, dtype=np.uint32), layers, np.zeros(n, np.int64))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    write_hspy(Path(sys.argv[1]), store, {}, LedgerTotals(), {})
except MapFileError as error:
    print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    write_hspy(Path(sys.argv[2]), store, {}, LedgerTotals(), {})
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are a POSIX thing")
@pytest.mark.parametrize("room", [0, 3000, 200_000])
def test_a_full_disk_leaves_the_older_file_and_no_other(tmp_path: Path, room: int) -> None:
    old, later = tmp_path / "map.hspy", tmp_path / "later.hspy"
    old.write_bytes(b"older")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(old), str(later), str(room)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert "could not be written" in done.stdout
    assert not done.stderr
    assert old.read_bytes() == b"older"
    assert h5py.is_hdf5(later)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["later.hspy", "map.hspy"]
