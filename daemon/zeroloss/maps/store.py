"""The map of one run in memory: layers, coverage, and which pixels changed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from threading import Lock
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from zeroloss.scan import Coverage, ScanGeometry
from zeroloss.wire import OutputInfo, PackageInfo, RunStart, layer_key
from zeroloss.wire.limits import MAX_PARTS

from .errors import MapSizeError

Pixels: TypeAlias = npt.NDArray[np.uint32]
States: TypeAlias = npt.NDArray[np.uint8]
Values: TypeAlias = dict[str, npt.NDArray[np.float32]]

DEFAULT_MAX_BYTES = 4 << 30
DETECTED_SHARE = 0.01
"""Part of the mapped pixels from which a label counts as detected."""
STORED_KINDS = ("probability", "scalar", "label")
MAX_LAYERS = MAX_PARTS - 4
"""Layers that fit into one message beside topic, header, pixels and coverage."""
_GROUP = 4096
"""Pixels per coarse dirty flag, so that looking for changes costs little on a large map."""
_COUNTED = 1 << 16
"""Pixels counted at a time."""
_OVERHEAD = 1 + 1 + 8
"""Bytes per pixel beside the layers: coverage, dirty flag, pass."""


def stored_layers(packages: Iterable[PackageInfo]) -> dict[str, OutputInfo]:
    """The outputs that become map layers, by `layer_key`; spectra are not kept per pixel."""
    return {
        layer_key(package.name, output.name): output
        for package in packages
        for output in package.outputs
        if output.kind in STORED_KINDS
    }


class MapStore:
    """Layers float32 [pixels, ...] with NaN where unknown, and coverage. Safe to use from threads.

    The values of one pixel always come from one pass over it, the newest that was written.
    """

    def __init__(
        self,
        start: RunStart,
        packages: Sequence[PackageInfo],
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        """Allocate an empty map; `MapSizeError` when it would exceed `max_bytes`."""
        self.start = start
        self.packages = tuple(packages)
        self.shape: tuple[int, int] = start.scan.shape
        self.pixels = ScanGeometry(start.scan).pixels
        self.layers: dict[str, OutputInfo] = stored_layers(packages)
        if len(self.layers) > MAX_LAYERS:
            raise MapSizeError(
                f"{len(self.layers)} map layers: one map holds at most {MAX_LAYERS}; "
                "run fewer model packages"
            )
        self.bytes_per_pixel = 4 * sum(math.prod(item.shape) for item in self.layers.values())
        self.nbytes = self.pixels * (self.bytes_per_pixel + _OVERHEAD)
        if self.nbytes > max_bytes:
            raise MapSizeError(
                f"a map of {self.shape[0]} x {self.shape[1]} pixels with {self.bytes_per_pixel} "
                f"bytes per pixel needs {self.nbytes / 2**20:.1f} MiB: the cap is "
                f"{max_bytes / 2**20:.1f} MiB; scan a smaller region, run fewer packages or raise "
                "the cap"
            )
        self._announced = {layer_key(p.name, o.name) for p in packages for o in p.outputs}
        self._lock = Lock()
        self._values: Values = {
            key: np.full((self.pixels, *item.shape), np.nan, dtype=np.float32)
            for key, item in self.layers.items()
        }
        self._coverage: States = np.zeros(self.pixels, dtype=np.uint8)
        self._passes = np.full(self.pixels, -1, dtype=np.int64)
        groups = -(-self.pixels // _GROUP)
        self._dirty = np.zeros((groups, _GROUP), dtype=np.bool_)
        self._groups = np.zeros(groups, dtype=np.bool_)

    def write(
        self,
        pixels: Pixels,
        values: Mapping[str, npt.NDArray[np.float32]],
        passes: npt.NDArray[np.int64],
    ) -> None:
        """Put `values` [n, ...] of the given passes [n] on the map; those pixels are DONE.

        A value of an older pass than the one on the map is ignored; of the same pass, the last one
        written stays. Layers that a newer pass does not bring are unknown again. Outputs of kind
        `spectrum` are passed over. Raises `ValueError` for pixels outside the map, layers that
        nobody announced, or wrong shapes.
        """
        n = len(pixels)
        self._check(pixels)
        unknown = sorted(values.keys() - self._announced)
        if unknown:
            raise ValueError(f"no layer {unknown[0]!r} in this map; it has {sorted(self.layers)}")
        for key in self.layers.keys() & values.keys():
            expected = (n, *self.layers[key].shape)
            if values[key].shape != expected:
                raise ValueError(f"layer {key}: expected {expected}, got {values[key].shape}")
        # Per pixel, the last of the newest pass: sort by pass, then take the last of each pixel.
        order = np.argsort(passes, kind="stable")[::-1]
        _, first = np.unique(pixels[order], return_index=True)
        chosen = order[first]
        with self._lock:
            chosen = chosen[passes[chosen] >= self._passes[pixels[chosen]]]
            at = pixels[chosen]
            newer = at[passes[chosen] > self._passes[at]]
            for key, layer in self._values.items():
                if key in values:
                    layer[at] = values[key][chosen]
                else:
                    layer[newer] = np.nan
            self._passes[at] = passes[chosen]
            self._coverage[at] = Coverage.DONE
            self._touch(at)

    def mark(self, pixels: Pixels, state: Coverage) -> None:
        """Set the coverage of pixels [n]; what is DONE stays DONE."""
        self._check(pixels)
        with self._lock:
            now = self._coverage[pixels]
            at = pixels[(now != Coverage.DONE) & (now != state)]
            self._coverage[at] = state
            self._touch(at)

    def take_dirty(self, limit: int) -> tuple[Pixels, States, Values] | None:
        """Up to `limit` changed pixels [n] in rising order, their coverage and layers, as copies.

        The flags of these pixels are cleared. None when nothing changed.
        """
        with self._lock:
            found: list[npt.NDArray[np.intp]] = []
            count = 0
            for group in np.flatnonzero(self._groups):
                inside = np.flatnonzero(self._dirty[group])
                taken = inside[: limit - count]
                self._dirty[group, taken] = False
                self._groups[group] = len(taken) < len(inside)
                found.append(group * _GROUP + taken)
                count += len(taken)
                if count >= limit:
                    break
            if not count:
                return None
            at = np.concatenate(found).astype(np.uint32)
            return at, self._coverage[at], {key: item[at] for key, item in self._values.items()}

    def page(self, first: int, n: int) -> tuple[States, Values]:
        """Coverage and layers of pixels `first` ... `first + n - 1` (fewer at the end), copied."""
        part = slice(first, first + n)
        with self._lock:
            values = {key: item[part].copy() for key, item in self._values.items()}
            return self._coverage[part].copy(), values

    def layer(self, key: str) -> npt.NDArray[np.float32]:
        """A copy of one layer [rows, columns, ...]; `KeyError` names the layers there are."""
        if key not in self._values:
            raise KeyError(f"no layer {key!r} in this map; it has {', '.join(self._values)}")
        with self._lock:
            values = self._values[key].copy()
        return values.reshape(*self.shape, *self.layers[key].shape)

    def plane(self, key: str, index: tuple[int, ...] = ()) -> npt.NDArray[np.float32]:
        """A copy of one element of a layer [rows, columns]; `index` counts along its dimensions."""
        with self._lock:
            plane: npt.NDArray[np.float32] = np.moveaxis(self._values[key], 0, -1)[index]
            return plane.reshape(self.shape).copy()

    def coverage(self) -> States:
        """A copy of the coverage [rows, columns]; the codes of `zeroloss.scan.Coverage`."""
        with self._lock:
            return self._coverage.reshape(self.shape).copy()

    def detected(self, share: float = DETECTED_SHARE) -> dict[str, tuple[str, ...]]:
        """Per probability layer the labels present in at least `share` of the DONE pixels.

        Present means at or above the layer's threshold. A label counts from 1 % of the pixels on,
        the rule of Annys, Jannis and Verbeeck, Scientific Reports 13, 13724 (2023).
        """
        with self._lock:
            done = self._coverage == Coverage.DONE
            needed = max(1.0, share * np.count_nonzero(done))
            out: dict[str, tuple[str, ...]] = {}
            for key, item in self.layers.items():
                if item.kind == "probability" and item.threshold is not None:
                    counts = self._count(key, np.float32(item.threshold), done)
                    found = zip(item.labels, counts, strict=True)
                    out[key] = tuple(label for label, count in found if count >= needed)
            return out

    def _count(
        self, key: str, threshold: np.float32, done: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int64]:
        counts = np.zeros(self.layers[key].shape, np.int64)
        # In parts, so that a large map needs no second one beside it.
        for first in range(0, self.pixels, _COUNTED):
            part = slice(first, first + _COUNTED)
            present = self._values[key][part] >= threshold
            counts += np.count_nonzero(present & done[part, None], axis=0)
        return counts

    def _check(self, pixels: Pixels) -> None:
        if len(pixels) and int(pixels.max()) >= self.pixels:
            raise ValueError(
                f"pixel {int(pixels.max())} is outside the map of {self.shape[0]} x "
                f"{self.shape[1]} = {self.pixels} pixels"
            )

    def _touch(self, at: Pixels) -> None:
        group, inside = np.divmod(at, _GROUP)
        self._dirty[group, inside] = True
        self._groups[group] = True
