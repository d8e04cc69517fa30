"""Whether an answer stands: a value that is there, or one that is missing for a stated reason."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from .manifest import Output

Floats = npt.NDArray[np.float32]


def stands(output: Output, answers: Mapping[str, Floats]) -> npt.NDArray[np.bool_]:
    """Per spectrum [n], whether `answers[output.name]` [n, *shape] keeps the contract.

    A label is one of its codes. Any other value is finite, or NaN where the label that the output
    names as its reason is above 0; so `answers` must hold that label as well.
    """
    values = answers[output.name]
    if output.kind == "label":
        # NaN is no code either: it equals nothing.
        codes = (values >= 0) & (values < len(output.labels)) & (values == np.floor(values))
        return np.asarray(codes, np.bool_)
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if output.reason is not None:
        finite |= answers[output.reason] > 0
    return np.asarray(finite, np.bool_)
