"""Runs the graph of a model package on spectra, in batches of fixed sizes."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping
from statistics import median
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from zeroloss.wire import OutputInfo, PackageInfo, ParameterInfo, SpectrumAxis

from .errors import InferenceError, PackageError
from .manifest import INPUT_NAMES, Output, Takes
from .package import ModelPackage
from .parameters import check_given, default_values, trial_values
from .provider import EP_NAMES, Provider, one_line, open_session
from .pruning import prune

Floats = npt.NDArray[np.float32]

WARM_UP_RUNS = 3
_FLOAT = "tensor(float)"
_COUNTS, _OFFSET, _SCALE = INPUT_NAMES


class ModelSession:
    """One model package, open on one execution provider.

    A package with outputs of kind `spectrum` is opened twice: as it is, and without what only they
    need, for maps, which are asked for at every pixel.

    `run` may be called from several threads at once. `provider` is the name of the execution
    provider that really runs the graph, `precision` that of the graph, `timings` the median
    seconds of one batch per bucket, without spectra, since the last `warm_up`.

    Raises `ProviderError` when the provider asked for is not there, `PackageError` when the graph
    does not keep the contract of its manifest, `InstallError` without a sound ONNX Runtime.
    """

    def __init__(
        self, package: ModelPackage, provider: Provider = "cpu", *, threads: int = 1
    ) -> None:
        self.package = package
        self.precision: str = package.manifest.graph.precision
        self.timings: dict[int, float] = {}
        graph = package.read_graph()
        self._session, self.provider = self._open(graph, provider, threads)
        self._check_graph()
        names = [item.name for item in package.manifest.outputs]
        light = [item.name for item in package.manifest.outputs if item.kind != "spectrum"]
        self._light_names = frozenset(light or names)
        self._light_session = self._session
        if len(self._light_names) < len(names):
            resolved = next(key for key, name in EP_NAMES.items() if name == self.provider)
            without = prune(graph, self._light_names)
            self._light_session, _ = self._open(without, cast(Provider, resolved), threads)
        buckets = package.manifest.buckets
        on_cpu = self.provider == EP_NAMES["cpu"]
        self.buckets: tuple[int, ...] = (buckets.cpu,) if on_cpu else tuple(sorted(buckets.gpu))
        """Batch sizes that are executed, rising; on a CPU there is one, so that a spectrum gives
        the same bits in whatever company it comes."""

    @property
    def smallest_bucket(self) -> int:
        """Spectra that are worth waiting for: fewer are padded to as many."""
        return self.buckets[0]

    @property
    def seconds_per_spectrum(self) -> float:
        """Of a full batch of the largest bucket, as of the last `warm_up`; 0 before the first."""
        largest = self.buckets[-1]
        return self.timings.get(largest, 0.0) / largest

    def warm_up(self, channels: int) -> None:
        """Run every bucket on spectra of that many channels and record its median in `timings`.

        Raises `InferenceError` when the model does not take that many channels or the graph fails.
        """
        manifest = self.package.manifest
        begin, scale = trial_axis(manifest.takes, channels)
        values = trial_values(manifest)
        # A falling background as in a real spectrum: some operators are slower on zeros or NaN.
        spectrum = (1e4 * np.linspace(1.0, 3.0, channels) ** -3).astype(np.float32)
        timings: dict[int, float] = {}
        for bucket in self.buckets:
            counts = np.tile(spectrum, (bucket, 1))
            seconds = []
            for _ in range(WARM_UP_RUNS):
                started = time.perf_counter()
                self.run(counts, begin, scale, self._light_names, values)
                seconds.append(time.perf_counter() - started)
            timings[bucket] = median(seconds)
            if self._light_session is not self._session:
                self.run(counts, begin, scale, parameters=values)
        self.timings = timings

    def run(
        self,
        counts: npt.ArrayLike,
        offset_ev: float | npt.ArrayLike,
        scale_ev: float | npt.ArrayLike,
        outputs: Collection[str] | None = None,
        parameters: Mapping[str, float | npt.ArrayLike] | None = None,
    ) -> dict[str, Floats]:
        """The outputs of the graph, by name, float32 [n, *shape], for `counts` [n, channels].

        A channel that is NaN was not measured. `offset_ev` (energy loss at the centre of channel 0)
        and `scale_ev` (eV per channel, > 0) are one number for all spectra or one each [n].
        `outputs` are those wanted, all by default; spectra are computed only where one is wanted.
        `parameters` are one number or one each [n], NaN where not known; what is left out has its
        default. Output values that are not finite come back as NaN; counting them is left to the
        caller. Raises `InferenceError` for spectra the model cannot take, outputs that it does not
        have, and when the graph fails, `ParameterError` for parameters that it does not have or
        cannot take.
        """
        wanted = self._wanted(outputs)
        rows = self._rows(counts)
        n = len(rows)
        offsets = _per_spectrum(_OFFSET, offset_ev, n)
        scales = _per_spectrum(_SCALE, scale_ev, n)
        if not (scales > 0).all():
            raise InferenceError(f"scale_ev must be above 0 eV per channel, got {scales.min():g}")
        further = self._further(parameters or {}, n)
        answers = {item.name: np.empty((n, *item.shape), np.float32) for item in wanted}
        for first, used, bucket in _batches(n, self.buckets) if wanted else ():
            part = slice(first, first + used)
            batch = {
                _COUNTS: _padded(rows[part], bucket),
                _OFFSET: _padded(offsets[part], bucket),
                _SCALE: _padded(scales[part], bucket),
            } | {name: _padded(values[part], bucket) for name, values in further.items()}
            for name, values in zip(answers, self._execute(list(answers), batch), strict=True):
                expected = (bucket, *answers[name].shape[1:])
                if values.shape != expected:
                    raise InferenceError(
                        f"{self._named}: output {name} came as {list(values.shape)}, the manifest "
                        f"promises {list(expected)}"
                    )
                answers[name][part] = values[:used]
        for values in answers.values():
            # NaN is NaN already, and often there: only the infinite need the slow assignment.
            infinite = np.isinf(values)
            if infinite.any():
                values[infinite] = np.nan
        return answers

    def info(self, range_name: str, parameters: Mapping[str, float] | None = None) -> PackageInfo:
        """What published maps say of this model on the energy range of that name.

        `parameters` are the values that it is run with.
        """
        manifest = self.package.manifest
        values = default_values(manifest) | dict(parameters or {})
        return PackageInfo(
            name=manifest.name,
            version=manifest.version,
            sha256=self.package.sha256,
            provider=self.provider,
            precision=self.precision,
            range_name=range_name,
            outputs=tuple(_output_info(item) for item in manifest.outputs),
            parameters=tuple(
                ParameterInfo(
                    name=item.name,
                    value=None if math.isnan(values[item.name]) else values[item.name],
                    unit=item.unit,
                )
                for item in manifest.parameters
            ),
        )

    @property
    def _named(self) -> str:
        return f"model package {self.package.folder}"

    def _open(self, graph: bytes, provider: Provider, threads: int) -> tuple[Any, str]:
        try:
            return open_session(graph, provider, threads)
        except PackageError as error:
            raise PackageError(f"{self._named}: {error}") from error

    def _wanted(self, outputs: Collection[str] | None) -> list[Output]:
        known = self.package.manifest.outputs
        if outputs is None:
            return list(known)
        unknown = set(outputs).difference(item.name for item in known)
        if unknown:
            raise InferenceError(
                f"the model {self.package.name} has no output {min(unknown)}; it has "
                f"{', '.join(item.name for item in known)}"
            )
        return [item for item in known if item.name in outputs]

    def _further(
        self, parameters: Mapping[str, float | npt.ArrayLike], n: int
    ) -> dict[str, Floats]:
        """The inputs beside the spectra, [n]."""
        manifest = self.package.manifest
        values: dict[str, float | npt.ArrayLike] = dict(default_values(manifest))
        for name, value in parameters.items():
            told = np.asarray(value, np.float64)
            if told.shape not in ((), (n,)):
                raise InferenceError(f"{name} must be one number or [{n}], got {list(told.shape)}")
            known = told[~np.isnan(told)]
            for extreme in (known.min(), known.max()) if known.size else (math.nan,):
                check_given(manifest, {name: float(extreme)})
            values[name] = told
        return {
            name: np.ascontiguousarray(np.broadcast_to(np.asarray(value, np.float32), (n,)))
            for name, value in values.items()
        }

    def _rows(self, counts: npt.ArrayLike) -> Floats:
        rows = np.ascontiguousarray(counts, dtype=np.float32)
        most = self.package.manifest.takes.max_channels
        if rows.ndim != 2 or not 2 <= rows.shape[1] <= most:
            raise InferenceError(
                f"the model {self.package.name} takes counts [n, channels] of 2 to {most} "
                f"channels, got {list(rows.shape)}"
            )
        return rows

    def _execute(self, names: list[str], batch: dict[str, Floats]) -> list[Floats]:
        light = self._light_names.issuperset(names)
        session = self._light_session if light else self._session
        try:
            values: list[Floats] = session.run(names, batch)
        # The errors of the runtime share no base class.
        except Exception as error:
            raise InferenceError(
                f"{self._named}: the graph failed on a batch of {list(batch[_COUNTS].shape)}: "
                f"{one_line(error)}"
            ) from error
        return values

    def _check_graph(self) -> None:
        inputs: dict[str, tuple[int | None, ...]] = {_COUNTS: (None, None)}
        inputs |= {_OFFSET: (None,), _SCALE: (None,)}
        inputs |= {item.name: (None,) for item in self.package.manifest.parameters}
        outputs = {item.name: (None, *item.shape) for item in self.package.manifest.outputs}
        self._compare("input", self._session.get_inputs(), inputs, symbolic_ok=False)
        self._compare("output", self._session.get_outputs(), outputs, symbolic_ok=True)

    def _compare(
        self,
        what: str,
        arguments: list[Any],
        expected: dict[str, tuple[int | None, ...]],
        *,
        symbolic_ok: bool,
    ) -> None:
        names = {item.name for item in arguments}
        if names != set(expected):
            raise PackageError(
                f"{self._named}: the graph has the {what}s {_list(names)}, expected are "
                f"{_list(expected)}"
            )
        for item in arguments:
            if item.type != _FLOAT:
                raise PackageError(
                    f"{self._named}: {what} {item.name} is of type {item.type}, expected {_FLOAT}"
                )
            if not _fits(item.shape, expected[item.name], symbolic_ok):
                wanted = ["any" if size is None else size for size in expected[item.name]]
                raise PackageError(
                    f"{self._named}: {what} {item.name} has the shape {item.shape}, expected "
                    f"{wanted}"
                )


def trial_axis(takes: Takes, channels: int) -> tuple[float, float]:
    """Offset and scale, eV, of an axis of that many channels that the model takes."""
    begin, end = takes.window_ev
    scale = (end - begin) / channels
    if takes.scale_ev is not None:
        scale = min(max(scale, takes.scale_ev[0]), takes.scale_ev[1])
    return begin, scale


def _output_info(output: Output) -> OutputInfo:
    axis = output.axis
    return OutputInfo(
        name=output.name,
        kind=output.kind,
        shape=output.shape,
        labels=output.labels,
        unit=output.unit,
        uncertainty=output.uncertainty,
        threshold=output.threshold,
        reason=output.reason,
        axis=None if axis is None else SpectrumAxis(**axis.model_dump()),
    )


def _fits(shape: list[Any], expected: tuple[int | None, ...], symbolic_ok: bool) -> bool:
    if len(shape) != len(expected):
        return False
    for size, wanted in zip(shape, expected, strict=True):
        fixed = isinstance(size, int)
        if wanted is None:
            if fixed:
                return False
        # A size that the graph leaves open is compared with the manifest at every run.
        elif size != wanted and (fixed or not symbolic_ok):
            return False
    return True


def _list(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"


def _per_spectrum(name: str, value: float | npt.ArrayLike, n: int) -> Floats:
    array = np.asarray(value, dtype=np.float32)
    if array.shape not in ((), (n,)):
        raise InferenceError(f"{name} must be one number or [{n}], got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise InferenceError(f"{name} must be finite, got {array[~np.isfinite(array)].flat[0]}")
    return np.ascontiguousarray(np.broadcast_to(array, (n,)))


def _batches(n: int, buckets: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """First spectrum, number of spectra and bucket of each batch."""
    first = 0
    while first < n:
        left = n - first
        bucket = next((item for item in buckets if item >= left), buckets[-1])
        used = min(left, bucket)
        yield first, used, bucket
        first += used


def _padded(rows: Floats, bucket: int) -> Floats:
    # Repeating a real spectrum keeps unusual values, and their slow paths, out of the batch.
    missing = bucket - len(rows)
    if missing == 0:
        return rows
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])
