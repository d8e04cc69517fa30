"""A graph that is open on an execution provider, whole or cut in two."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import InferenceError, PackageError
from .inputs import Floats, Inputs
from .manifest import INPUT_NAMES
from .provider import one_line
from .pruning import prune, read_values

Tensors = Mapping[str, npt.NDArray[Any]]
Key = tuple[tuple[str, tuple[int, ...], bytes], ...]

MAX_KEPT = 4
"""Sets of prepared tensors that a model keeps: as many runs may take turns."""
MAX_KEPT_BYTES = 1 << 28
_COUNTS = INPUT_NAMES[0]


class OpenGraph:
    """An ONNX Runtime session; `session` is it, `named` says whose it is."""

    def __init__(self, session: Any, named: str) -> None:
        self.session = session
        self._named = named

    def run(self, names: Sequence[str], inputs: Tensors) -> list[npt.NDArray[Any]]:
        """These outputs for a batch; `InferenceError` where the graph fails."""
        try:
            values: list[npt.NDArray[Any]] = self.session.run(list(names), dict(inputs))
        # The errors of the runtime share no base class.
        except Exception as error:
            raise InferenceError(
                f"{self._named}: the graph failed on a batch of {list(inputs[_COUNTS].shape)}: "
                f"{one_line(error)}"
            ) from error
        return values

    def run_into(self, names: Sequence[str], inputs: Tensors, into: Sequence[Floats]) -> bool:
        """Have these outputs for a batch written into as many whole arrays, without a copy.

        For graphs on the CPU. False, and anything in the arrays, where that cannot be: the runtime
        refuses an array of another shape than the output. `run` then tells what is wrong.
        """
        try:
            binding = self.session.io_binding()
            for name, values in inputs.items():
                binding.bind_cpu_input(name, values)
            for name, values in zip(names, into, strict=True):
                where = values.ctypes.data
                binding.bind_output(name, "cpu", 0, values.dtype, values.shape, where)
            self.session.run_with_iobinding(binding)
            made = binding.get_outputs()
        except Exception:  # noqa: BLE001 - the errors of the runtime share no base class
            return False
        # What a graph hands through may come in the memory of its input.
        return all(
            item.data_ptr() == values.ctypes.data for item, values in zip(made, into, strict=True)
        )


class CutGraph:
    """A graph in two parts: one makes the prepared tensors, the other is given them.

    Where all that the prepared tensors are made of is the same for all spectra, they are made for
    one spectrum, kept, and given to every batch. Which way is taken does not depend on the batch.
    `fit` is the part that is given them. Safe to use from several threads.

    Raises `PackageError` where the values of `counts` go into a prepared tensor, or one is none.
    """

    def __init__(
        self,
        graph: bytes,
        prepared: Sequence[str],
        outputs: Collection[str],
        open_part: Callable[[bytes], OpenGraph],
        named: str,
    ) -> None:
        try:
            self._read = read_values(graph, set(prepared))
            parts = prune(graph, set(prepared)), prune(graph, set(outputs), prepared)
        except PackageError as error:
            raise PackageError(f"{named}: the graph {error}") from None
        if _COUNTS in self._read:
            raise PackageError(
                f"{named}: the prepared tensors {', '.join(prepared)} are made of the values of "
                f"{_COUNTS}, expected is that they need its sizes only (Shape)"
            )
        self._names = tuple(prepared)
        self._prepare, self.fit = map(open_part, parts)
        self._kept: OrderedDict[Key, Tensors] = OrderedDict()
        self._lock = Lock()

    def once(self, inputs: Inputs) -> Tensors | None:
        """The prepared tensors for all of these spectra; None where each has its own."""
        if not inputs.varying.isdisjoint(self._read):
            return None
        one = inputs.batch(0, 1, 1)
        key = tuple(
            (name, value.shape, value.tobytes() if name in self._read else b"")
            for name, value in one.items()
        )
        # Whoever else wants them waits: they would need as long to make them again.
        with self._lock:
            found = self._kept.pop(key, None)
            if found is None:
                found = self._tensors(one)
            self._kept[key] = found
            while len(self._kept) > MAX_KEPT or _nbytes(self._kept.values()) > MAX_KEPT_BYTES:
                self._kept.popitem(last=False)
        return found

    def inputs(self, batch: Tensors, prepared: Tensors | None) -> Tensors:
        """The inputs of `fit` for a batch; `prepared` is the answer of `once`."""
        tensors = self._tensors(batch) if prepared is None else prepared
        return {**batch, **tensors}

    def _tensors(self, batch: Tensors) -> Tensors:
        return dict(zip(self._names, self._prepare.run(self._names, batch), strict=True))


def _nbytes(kept: Any) -> int:
    return sum(np.asarray(value).nbytes for tensors in kept for value in tensors.values())
