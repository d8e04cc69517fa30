"""The maps of one run as a subscriber knows them: arrays, coverage, ledger, provenance."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import zmq

from zeroloss.scan import Coverage
from zeroloss.wire import (
    LedgerTotals,
    LedgerUpdate,
    MapClose,
    MapOpen,
    MapUpdate,
    OutputInfo,
    PackageInfo,
    RunStart,
    Snapshot,
    layer_key,
)

from .spectrum import ANSWER_WITHIN_S, Span, SummedSpectra, ask_spectra, askable

Requests: TypeAlias = tuple[zmq.Context[zmq.Socket[bytes]], str]
"""Where the daemon answers: endpoint, and the context to ask in."""
DETECTED_SHARE = 0.01
"""A label is detected where at least this share of the mapped pixels is at or above threshold."""
SUMMARY_PIXELS = 1 << 16


class MapTooLargeError(MemoryError):
    """The maps of a run need more memory than this subscriber may take."""


@dataclass(frozen=True)
class MapView:
    """One map at one moment, as copies: it never changes.

    `values` float32 [ny, nx], NaN where there is no value (yet); `coverage` uint8 [ny, nx] with the
    codes of `zeroloss.scan.Coverage`; `threshold` where the map is a probability; `labels` where
    the values are codes: the names of 0, 1, ... numpy functions take a view as its `values`.
    """

    label: str
    values: npt.NDArray[np.float32]
    coverage: npt.NDArray[np.uint8]
    threshold: float | None = None
    labels: tuple[str, ...] = ()

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """[ny, nx], true where there is no value: the convention of `numpy.ma`.

        That is where no spectrum is mapped, and where the model has none for it.
        """
        mask: npt.NDArray[np.bool_] = (self.coverage != Coverage.DONE) | np.isnan(self.values)
        return mask

    @property
    def masked(self) -> np.ma.MaskedArray[Any, np.dtype[np.float32]]:
        """The values as a masked array."""
        return np.ma.MaskedArray(self.values, mask=self.mask)

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """[ny, nx], true where the probability reaches the threshold of its model."""
        if self.threshold is None:
            raise ValueError(f"the map {self.label!r} is not a probability: it has no threshold")
        present: npt.NDArray[np.bool_] = ~self.mask & (self.values >= self.threshold)
        return present

    @property
    def share(self) -> float:
        """Share of the mapped pixels where the label is present; 0 where none is mapped."""
        return float(self.present.sum() / max(1, int((self.coverage == Coverage.DONE).sum())))

    @property
    def label_shares(self) -> dict[str, float]:
        """Per label of a map of codes, the share of the mapped pixels that are of it."""
        if not self.labels:
            raise ValueError(f"the map {self.label!r} holds values, not the codes of labels")
        known = ~self.mask & (self.values >= 0) & (self.values < len(self.labels))
        counts = np.bincount(self.values[known].astype(np.intp), minlength=len(self.labels))
        mapped = max(1, int((self.coverage == Coverage.DONE).sum()))
        return {name: int(n) / mapped for name, n in zip(self.labels, counts, strict=True)}

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.values.shape[0], self.values.shape[1]

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        return np.array(self.values, dtype=dtype, copy=copy)


class LiveRun:
    """All maps of one run; grows until `closed`. Every method may be called from any thread.

    `run["Fe"]` is the probability map of an element, `run["package/output"]` that of a scalar or a
    label; `layer()` gives whole arrays. Each access copies what there is at that moment.
    """

    def __init__(self, opened: MapOpen, memory_bytes: int, requests: Requests) -> None:
        self._lock = threading.RLock()
        self._requests = requests
        self.opened = opened
        self.start: RunStart = opened.start
        self.packages: tuple[PackageInfo, ...] = opened.packages
        self.pixels = self.start.scan.shape[0] * self.start.scan.shape[1]
        self.outputs: dict[str, OutputInfo] = {
            layer_key(package.name, output.name): output
            for package in opened.packages
            for output in package.outputs
            if output.kind != "spectrum"
        }
        needed = self.pixels * (
            16 + 4 * sum(int(np.prod(output.shape)) for output in self.outputs.values())
        )
        if needed > memory_bytes:
            rows, columns = self.start.scan.shape
            raise MapTooLargeError(
                f"the maps of {rows} x {columns} pixels need {needed / 2**30:.1f} GiB, this "
                f"subscriber may take {memory_bytes / 2**30:.1f}: raise memory_bytes"
            )
        self._coverage = np.zeros(self.pixels, np.uint8)
        self._stamp = np.full(self.pixels, -1, np.int64)
        self._layers = {
            key: np.full((self.pixels, *output.shape), np.nan, np.float32)
            for key, output in self.outputs.items()
        }
        self._probabilities = [
            key for key, output in self.outputs.items() if output.kind == "probability"
        ]
        self._labels = self._index_labels()
        self._ledger = LedgerTotals()
        self._lag_s = self._rate_hz = 0.0
        self._ledger_seq = -1
        self._closed: MapClose | None = None

    def _index_labels(self) -> dict[str, tuple[str, int]]:
        labels: dict[str, tuple[str, int]] = {}
        for key in self._probabilities:
            for index, label in enumerate(self.outputs[key].labels):
                labels.setdefault(label, (key, index))
        return labels

    # -- what is on the maps ----------------------------------------------------------------

    @property
    def run(self) -> bytes:
        """The 16 bytes that name the run."""
        return self.start.run

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the maps."""
        return self.start.scan.shape

    @property
    def elements(self) -> tuple[str, ...]:
        """Every label that has a probability map, in the order of the model."""
        return tuple(self._labels)

    @property
    def closed(self) -> MapClose | None:
        """How the run ended, once its maps are final."""
        return self._closed

    @property
    def ledger(self) -> LedgerTotals:
        """The last known balance: announced = processed + pending + missed + rejected."""
        return self._ledger

    @property
    def lag_s(self) -> float:
        """Age of the newest mapped spectrum since the daemon received it."""
        return self._lag_s

    @property
    def rate_hz(self) -> float:
        """Spectra mapped per second of late."""
        return self._rate_hz

    @property
    def coverage(self) -> npt.NDArray[np.uint8]:
        """Codes of `zeroloss.scan.Coverage` [ny, nx]."""
        with self._lock:
            return self._coverage.reshape(self.shape).copy()

    @property
    def provenance(self) -> dict[str, object]:
        """What made the maps: software, configuration, and every model with where it ran."""
        return {
            "software": self.opened.software,
            "config_sha256": self.opened.config_sha256,
            "run": self.run.hex(),
            "title": self.start.title,
            "packages": {
                package.name: {
                    "version": package.version,
                    "sha256": package.sha256,
                    "provider": package.provider,
                    "precision": package.precision,
                    "parameters": {item.name: item.value for item in package.parameters},
                    "selection": package.selected,
                    "low_loss_range": package.low_loss_range,
                    "range": package.range_name,
                }
                for package in self.packages
            },
        }

    @property
    def detected(self) -> tuple[str, ...]:
        """Labels found: the daemon's word once the maps are final, before that the same rule.

        The rule: present in at least 1 % of the mapped pixels.
        """
        closed = self._closed
        if closed is not None:
            found = [label for labels in closed.detected.values() for label in labels]
            return tuple(dict.fromkeys(found))
        shares = self.shares()
        return tuple(label for label, share in shares.items() if share >= DETECTED_SHARE)

    def shares(self) -> dict[str, float]:
        """Share of the mapped pixels where each label is present; empty before the first one."""
        return {label: share for label, (share, _) in self.summary().items()}

    def summary(self) -> dict[str, tuple[float, float]]:
        """Per label: share of the mapped pixels where it is present, and its mean probability.

        The mean is over the pixels where the model answered, 0 where it never did. Empty before the
        first mapped pixel. Goes through the map in parts, so that updates are not held up by a
        large one.
        """
        count = 0
        above = {key: np.zeros(self.outputs[key].shape) for key in self._probabilities}
        total = {key: np.zeros(self.outputs[key].shape) for key in self._probabilities}
        given = {key: np.zeros(self.outputs[key].shape) for key in self._probabilities}
        for begin in range(0, self.pixels, SUMMARY_PIXELS):
            part = slice(begin, begin + SUMMARY_PIXELS)
            with self._lock:
                done = self._coverage[part] == Coverage.DONE
                mapped = int(done.sum())
                count += mapped
                for key in self._probabilities if mapped else ():
                    values = self._layers[key][part]
                    if mapped < len(done):
                        values = values[done]
                    threshold = self.outputs[key].threshold or 0.5
                    above[key] += (values >= threshold).sum(axis=0)
                    # Sums of at most 65 536 values from 0 to 1 are exact enough in float32.
                    total[key] += np.nansum(values, axis=0)
                    given[key] += np.isfinite(values).sum(axis=0)
        out: dict[str, tuple[float, float]] = {}
        if count:
            for label, (key, index) in self._labels.items():
                mean = float(total[key][index]) / max(1.0, float(given[key][index]))
                out[label] = float(above[key][index]) / count, mean
        return out

    def __getitem__(self, name: str) -> MapView:
        key, index = self._find(name)
        output = self.outputs[key]
        threshold = output.threshold if output.kind == "probability" else None
        return self._view(name, key, index, threshold)

    def __contains__(self, name: object) -> bool:
        return name in self._labels or name in self.outputs

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)

    def spread(self, name: str) -> MapView:
        """The uncertainty (one standard deviation) of a map; `KeyError` where it has none."""
        key, index = self._find(name)
        output = self.outputs[key]
        if output.uncertainty is None:
            raise KeyError(f"the output {key!r} states no uncertainty")
        package = key.split("/", 1)[0]
        return self._view(name, layer_key(package, output.uncertainty), index, None)

    def reason(self, name: str) -> MapView:
        """Why values of a map are missing: codes with their labels, of which 0 says that it is not.

        `KeyError` where the map states no reason.
        """
        key, _ = self._find(name)
        output = self.outputs[key]
        if output.reason is None:
            raise KeyError(f"the output {key!r} states no reason")
        return self[layer_key(key.split("/", 1)[0], output.reason)]

    def layer(self, key: str) -> npt.NDArray[np.float32]:
        """All of one output [ny, nx, ...]; `key` is "package/output"."""
        if key not in self._layers:
            raise KeyError(f"no layer {key!r}; there are {', '.join(self._layers)}")
        with self._lock:
            layer = self._layers[key]
            return layer.reshape(*self.shape, *layer.shape[1:]).copy()

    @property
    def askable(self) -> tuple[str, ...]:
        """What `spectrum` can be asked for: the raw counts of every range, every model output."""
        return askable(self.start, self.packages)

    def spectrum(
        self,
        *,
        what: Sequence[str] | str = (),
        pixels: npt.ArrayLike | None = None,
        rows: Span = None,
        columns: Span = None,
        parameters: Mapping[str, float] | None = None,
        timeout_s: float = ANSWER_WITHIN_S,
    ) -> SummedSpectra:
        """The sum of the spectra of some pixels, raw or as a model sees it, asked of the daemon.

        `what` are names among `askable`, by default the raw counts of every range. The pixels are
        `pixels` (pairs (row, column), a mask [ny, nx], or a numpy array of flat indices), or the
        rectangle of `rows` and `columns`: one index, a half-open (begin, end), or all by default.
        `parameters` are values by "package.name", like {"low_loss.refractive_index": 2.1}, in place
        of those that the run is mapped with.

        Raises `SpectrumRefusedError` with the daemon's sentence where it does not answer,
        `TimeoutError` when it is silent for `timeout_s` seconds, and `PixelError` (a `ValueError`)
        for pixels that are not on the map.
        """
        context, endpoint = self._requests
        return ask_spectra(
            context,
            endpoint,
            self.start,
            what=what,
            pixels=pixels,
            rows=rows,
            columns=columns,
            parameters=parameters,
            timeout_s=timeout_s,
        )

    def to_hyperspy(self, labels: tuple[str, ...] | None = None) -> Any:
        """The probability maps as a HyperSpy `Signal2D` [label, y, x] with axes and provenance.

        `labels` default to those detected. Raises `ImportError` where HyperSpy is not installed.
        """
        from .hyperspy import signal_of

        return signal_of(self, labels)

    def _find(self, name: str) -> tuple[str, int | None]:
        if name in self._labels:
            return self._labels[name]
        if name in self.outputs and self.outputs[name].shape == ():
            return name, None
        if name in self.outputs:
            raise KeyError(f"{name!r} holds more than one map: use layer({name!r})")
        raise KeyError(f"no map {name!r} in this run; it has {', '.join(self._labels)}")

    def _view(self, name: str, key: str, index: int | None, threshold: float | None) -> MapView:
        with self._lock:
            layer = self._layers[key]
            values = layer if index is None else layer[:, index]
            output = self.outputs[key]
            return MapView(
                name,
                values.reshape(self.shape).copy(),
                self.coverage,
                threshold=threshold,
                labels=output.labels if output.kind == "label" else (),
            )

    # -- what the follower writes -------------------------------------------------------------

    def restart(self, opened: MapOpen) -> None:
        """The same run is opened again, by a restarted daemon or after its close.

        Numbers of messages may begin afresh.
        """
        with self._lock:
            self.opened = opened
            self._stamp[:] = -1
            self._ledger_seq = -1
            self._closed = None

    def fits(self, opened: MapOpen) -> bool:
        """Whether this message describes the same run with the same layers."""
        return opened.start == self.start and [
            (item.name, item.outputs) for item in opened.packages
        ] == [(item.name, item.outputs) for item in self.packages]

    def update(self, message: MapUpdate) -> npt.NDArray[np.uint32]:
        """Take changed pixels over; returns those that were new. `ValueError` where they misfit."""
        pixels = message.pixels
        if len(pixels) and int(pixels.max()) >= self.pixels:
            raise ValueError(f"pixel {int(pixels.max())} of a map of {self.pixels}")
        with self._lock:
            newer = self._stamp[pixels] <= message.seq
            self._write(pixels[newer], newer, message.seq, message.coverage, message.values)
        return pixels[newer]

    def page(self, message: Snapshot) -> npt.NDArray[np.uint32]:
        """Take one page of a snapshot over, except where newer updates have already been."""
        n = len(message.coverage)
        if message.first + n > self.pixels:
            raise ValueError(f"pixels {message.first} + {n} of a map of {self.pixels}")
        pixels = np.arange(message.first, message.first + n, dtype=np.uint32)
        with self._lock:
            newer = self._stamp[pixels] <= message.seq
            if newer.all():
                part = slice(message.first, message.first + n)
                self._write(part, slice(None), message.seq, message.coverage, message.values)
            else:
                self._write(pixels[newer], newer, message.seq, message.coverage, message.values)
            if message.seq >= self._ledger_seq:
                self._ledger, self._ledger_seq = message.totals, message.seq
        return pixels[newer]

    def _write(
        self,
        pixels: npt.NDArray[np.uint32] | slice,
        newer: npt.NDArray[np.bool_] | slice,
        seq: int,
        coverage: npt.NDArray[np.uint8],
        values: Mapping[str, npt.NDArray[np.float32]],
    ) -> None:
        for key, array in values.items():
            layer = self._layers.get(key)
            if layer is None or array.shape[1:] != layer.shape[1:]:
                raise ValueError(f"a layer {key!r} {list(array.shape[1:])} that was not announced")
        self._coverage[pixels] = coverage[newer]
        self._stamp[pixels] = seq
        for key, array in values.items():
            self._layers[key][pixels] = array[newer]

    def account(self, message: LedgerUpdate) -> None:
        """Take the ledger over."""
        with self._lock:
            if message.seq >= self._ledger_seq:
                self._ledger, self._ledger_seq = message.totals, message.seq
                self._lag_s, self._rate_hz = message.lag_s, message.rate_hz

    def close(self, message: MapClose) -> None:
        """The maps are final."""
        with self._lock:
            self._closed = message
            self._ledger, self._ledger_seq = message.totals, message.seq
