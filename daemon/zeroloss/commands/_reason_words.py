"""What the codes of a label mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

NO_ANSWER = "no answer"


def reason_words(labels: Sequence[str], codes: npt.NDArray[np.floating]) -> npt.NDArray[np.str_]:
    """The label of every code, in the shape of the codes; NO_ANSWER where a code is NaN."""
    words = np.array([*labels, NO_ANSWER])
    return np.asarray(words[np.nan_to_num(codes, nan=len(labels)).astype(np.intp)], np.str_)
