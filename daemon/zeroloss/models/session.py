"""Runs the graph of a model package on spectra, in batches of fixed sizes."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from statistics import median
from threading import Lock
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from zeroloss.wire import OutputInfo, PackageInfo, ParameterInfo, SelectionInfo, SpectrumAxis

from .errors import InferenceError, ModelError, PackageError
from .graph import CutGraph, OpenGraph, Tensors
from .inputs import Floats, LowLoss, Shape, expected_inputs, make_inputs
from .manifest import Output, Takes
from .package import ModelPackage
from .parameters import default_values, trial_selections, trial_values
from .provider import EP_NAMES, Provider, open_session
from .pruning import output_names, prune

WARM_UP_RUNS = 3
_FLOAT = "tensor(float)"


class ModelSession:
    """One model package, open on one execution provider.

    What `outputs` need is opened at once and the rest left out; by default these are the outputs of
    maps, all but those of kind `spectrum`. A package with prepared tensors is cut in two for them.
    The graph as it is in the file is opened too when another output is first asked for.

    `run` may be called from several threads at once. `provider` is the name of the execution
    provider that really runs the graph, `precision` that of the graph, `timings` the median
    seconds of one batch per bucket, without spectra, since the last `warm_up`.

    Raises `ProviderError` when the provider asked for is not there, `PackageError` when the graph
    does not keep the contract of its manifest, `InstallError` without a sound ONNX Runtime.
    """

    def __init__(
        self,
        package: ModelPackage,
        provider: Provider = "cpu",
        *,
        threads: int = 1,
        outputs: Collection[str] | None = None,
    ) -> None:
        self.package = package
        self.precision: str = package.manifest.graph.precision
        self.timings: dict[int, float] = {}
        self._asked: Provider = provider
        self._threads = threads
        self._lock = Lock()
        self._whole: OpenGraph | None = None
        self._graph = graph = package.read_graph()
        every, prepared = package.manifest.outputs, package.manifest.graph.prepared
        try:
            made = output_names(graph)
        except PackageError as error:
            raise PackageError(f"{self._named}: the graph {error}") from None
        self._check_names("output", made, {o.name for o in every} | {*prepared})
        light = self._wanted(outputs)
        if outputs is None:
            light = [item for item in every if item.kind != "spectrum"] or light
        self._light_names = frozenset(item.name for item in light)
        self._cut: CutGraph | None = None
        if prepared:
            self._cut = CutGraph(graph, prepared, self._light_names, self._open, self._named)
            self._light = self._cut.fit
        elif len(light) < len(every):
            self._light = self._open(prune(graph, self._light_names))
        else:
            self._light = self._open_whole()
        buckets = package.manifest.buckets
        self._on_cpu = self.provider == EP_NAMES["cpu"]
        self.buckets: tuple[int, ...] = (
            (buckets.cpu,) if self._on_cpu else tuple(sorted(buckets.gpu))
        )
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

    def warm_up(
        self, channels: int, *, low_loss_channels: int | None = None, own_axes: bool = False
    ) -> None:
        """Run every bucket on spectra of that many channels and record its median in `timings`.

        `low_loss_channels` are those of the low loss beside, where there is any; `own_axes` says
        that the spectra of a run are given an energy axis each. Raises `InferenceError` when the
        model does not take that many channels or the graph fails.
        """
        manifest = self.package.manifest
        begin, scale = trial_axis(manifest.takes, channels)
        values = trial_values(manifest)
        selection = trial_selections(manifest)[0]
        timings: dict[int, float] = {}
        for bucket in self.buckets:
            counts = _falling(bucket, channels)
            offset = np.full(bucket, begin) if own_axes else begin
            low = None
            if manifest.takes.low_loss and low_loss_channels is not None:
                low_counts = _falling(bucket, low_loss_channels)
                low = LowLoss(low_counts, *trial_low_loss_axis(low_loss_channels))
            beside: dict[str, Any] = {"selection": selection, "low_loss": low}
            seconds = []
            for _ in range(WARM_UP_RUNS):
                started = time.perf_counter()
                self.run(counts, offset, scale, self._light_names, values, **beside)
                seconds.append(time.perf_counter() - started)
            timings[bucket] = median(seconds)
            if len(self._light_names) < len(manifest.outputs):
                self.run(counts, offset, scale, None, values, **beside)
        self.timings = timings

    def run(
        self,
        counts: npt.ArrayLike,
        offset_ev: float | npt.ArrayLike,
        scale_ev: float | npt.ArrayLike,
        outputs: Collection[str] | None = None,
        parameters: Mapping[str, float | npt.ArrayLike] | None = None,
        *,
        selection: Sequence[int] | None = None,
        low_loss: LowLoss | None = None,
        whole: bool = False,
    ) -> dict[str, Floats]:
        """The outputs of the graph, by name, float32 [n, *shape], for `counts` [n, channels].

        A channel that is NaN was not measured. `offset_ev` (energy loss at the centre of channel 0)
        and `scale_ev` (eV per channel, > 0) are one number for all spectra or one each [n].
        `outputs` are those wanted, all by default; spectra are computed only where one is wanted.
        `parameters` are one number or one each [n], NaN where not known; what is left out has its
        default. `selection` are indices of the labels of `takes.selection`, rising; what is
        selected comes as [n, len(selection)]. `low_loss` are the low-loss spectra of the same
        pixels for a package that takes them, None where there are none. With `whole` the graph is
        run as it is in the file, neither light nor cut. Output values that are not finite come back
        as NaN; counting them is left to the caller.

        Raises `InferenceError` for spectra or a selection that the model cannot take, outputs that
        it does not have, and when the graph fails or cannot be opened whole, `ParameterError` for
        parameters that it does not have or cannot take.
        """
        wanted = self._wanted(outputs)
        names = [item.name for item in wanted]
        chosen = tuple(selection or ())
        inputs = make_inputs(
            self.package.manifest, counts, offset_ev, scale_ev, parameters or {}, chosen, low_loss
        )
        n = len(inputs)
        answers = {
            item.name: np.empty((n, len(chosen)) if item.selected else (n, *item.shape), np.float32)
            for item in wanted
        }
        light = not whole and self._light_names.issuperset(names)
        cut = self._cut if light else None
        graph = self._light if light else self._whole_to_run()
        # A copy of the answers, in memory that is fresh every time, costs a third of a fast graph.
        direct = self._on_cpu and not any(item.selected for item in wanted)
        prepared = cut.once(inputs) if cut is not None and n and wanted else None
        for first, used, bucket in _batches(n, self.buckets) if wanted else ():
            batch: Tensors = inputs.batch(first, used, bucket)
            batch = batch if cut is None else cut.inputs(batch, prepared)
            rows = slice(first, first + used)
            into = [answers[name][rows] for name in names] if direct and used == bucket else None
            if into is not None and graph.run_into(names, batch, into):
                continue
            found = graph.run(names, batch)
            for item, values in zip(wanted, found, strict=True):
                expected = (bucket, *item.shape)
                if values.shape != expected:
                    raise InferenceError(
                        f"{self._named}: output {item.name} came as {list(values.shape)}, the "
                        f"manifest promises {list(expected)}"
                    )
                kept = values[:used, : len(chosen)] if item.selected else values[:used]
                answers[item.name][rows] = kept
        for values in answers.values():
            # NaN is NaN already, and often there: only the infinite need the slow assignment.
            infinite = np.isinf(values)
            if infinite.any():
                values[infinite] = np.nan
        return answers

    def info(
        self,
        range_name: str,
        parameters: Mapping[str, float] | None = None,
        selection: Sequence[int] = (),
        low_loss_range: str | None = None,
    ) -> PackageInfo:
        """What published maps say of this model on the energy range of that name.

        `parameters` are the values that it is run with, `selection` the indices of what was chosen,
        `low_loss_range` is the range that it is given beside its own.
        """
        manifest = self.package.manifest
        values = default_values(manifest) | dict(parameters or {})
        takes = manifest.takes.selection
        return PackageInfo(
            name=manifest.name,
            version=manifest.version,
            sha256=self.package.sha256,
            provider=self.provider,
            precision=self.precision,
            range_name=range_name,
            outputs=tuple(_output_info(item) for item in manifest.chosen_outputs(selection)),
            parameters=tuple(
                ParameterInfo(
                    name=item.name,
                    value=None if math.isnan(values[item.name]) else values[item.name],
                    unit=item.unit,
                )
                for item in manifest.parameters
            ),
            selection=(
                None
                if takes is None
                else SelectionInfo(
                    name=takes.name, labels=tuple(takes.labels[index] for index in selection)
                )
            ),
            low_loss_range=low_loss_range,
        )

    @property
    def _named(self) -> str:
        return f"model package {self.package.folder}"

    def _open(self, graph: bytes) -> OpenGraph:
        try:
            session, self.provider = open_session(graph, self._asked, self._threads)
        except PackageError as error:
            raise PackageError(f"{self._named}: {error}") from error
        # What is opened later runs where the first part runs.
        self._asked = cast(Provider, next(k for k, v in EP_NAMES.items() if v == self.provider))
        try:
            self._check(session)
        except UnicodeDecodeError as error:
            # The runtime decodes names of inputs and sizes only when they are looked at.
            raise PackageError(
                f"{self._named}: the graph has a name that is not UTF-8: export it again"
            ) from error
        return OpenGraph(session, self._named)

    def _open_whole(self) -> OpenGraph:
        with self._lock:
            if self._whole is None:
                self._whole = self._open(self._graph)
                self._graph = b""
            return self._whole

    def _whole_to_run(self) -> OpenGraph:
        try:
            return self._open_whole()
        # Whoever runs a model that is open expects nothing else.
        except ModelError as error:
            raise InferenceError(str(error)) from error

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

    def _check(self, session: Any) -> None:
        """Compare the inputs of a part of the graph, and those outputs that it has."""
        manifest = self.package.manifest
        prepared = manifest.graph.prepared
        expected = expected_inputs(manifest)
        inputs = [item for item in session.get_inputs() if item.name not in prepared]
        self._check_names("input", {item.name for item in inputs}, set(expected))
        for item in inputs:
            self._check_form("input", item, expected[item.name], symbolic_ok=False)
        shapes: dict[str, Shape] = {item.name: (None, *item.shape) for item in manifest.outputs}
        for item in session.get_outputs():
            if item.name not in prepared:
                self._check_form("output", item, shapes[item.name], symbolic_ok=True)
            # What a prepared tensor is beyond its batch is between the two parts of the graph.
            elif not item.shape or isinstance(item.shape[0], int):
                raise PackageError(
                    f"{self._named}: the prepared tensor {item.name} has the shape {item.shape}, "
                    "expected is an open first size, the batch"
                )

    def _check_names(self, what: str, names: set[str], expected: set[str]) -> None:
        if names != expected:
            raise PackageError(
                f"{self._named}: the graph has the {what}s {_list(names)}, expected are "
                f"{_list(expected)}"
            )

    def _check_form(self, what: str, item: Any, shape: Shape, *, symbolic_ok: bool) -> None:
        if item.type != _FLOAT:
            raise PackageError(
                f"{self._named}: {what} {item.name} is of type {item.type}, expected {_FLOAT}"
            )
        if not _fits(item.shape, shape, symbolic_ok):
            wanted = ["any" if size is None else size for size in shape]
            raise PackageError(
                f"{self._named}: {what} {item.name} has the shape {item.shape}, expected {wanted}"
            )


def trial_axis(takes: Takes, channels: int) -> tuple[float, float]:
    """Offset and scale, eV, of an axis of that many channels that the model takes."""
    begin, end = takes.window_ev
    scale = (end - begin) / channels
    if takes.scale_ev is not None:
        scale = min(max(scale, takes.scale_ev[0]), takes.scale_ev[1])
    return begin, scale


def trial_low_loss_axis(channels: int) -> tuple[float, float]:
    """Offset and scale, eV, of an axis of a low loss of that many channels."""
    return -20.0, 120.0 / channels


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


def _batches(n: int, buckets: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """First spectrum, number of spectra and bucket of each batch."""
    first = 0
    while first < n:
        left = n - first
        bucket = next((item for item in buckets if item >= left), buckets[-1])
        used = min(left, bucket)
        yield first, used, bucket
        first += used


def _falling(n: int, channels: int) -> Floats:
    # A falling background as in a real spectrum: some operators are slower on zeros or NaN.
    spectrum = (1e4 * np.linspace(1.0, 3.0, channels) ** -3).astype(np.float32)
    return np.tile(spectrum, (n, 1))
