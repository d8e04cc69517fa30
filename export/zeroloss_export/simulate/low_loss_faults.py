"""Low-loss spectra that nothing should be measured in, made from good ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from zeroloss_export.simulate.low_loss import LowLossScan

Counts = NDArray[np.float32]
Fault = Literal["no peak", "shifted out", "saturated", "clipped", "negative"]
FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)

_SATURATION: Final = 0.3
"""Share of the maximum above which the detector of a bad spectrum counts no more."""
_DARK: Final = 0.02


def spoil(scan: LowLossScan, fault: Fault, seed: int = 0) -> Counts:
    """The counts [rows, columns, channels] of a scan with one fault in every pixel.

    - no peak: detector noise only (the beam was blanked);
    - shifted out: the zero-loss maximum left the range on its left side;
    - saturated: NaN where the detector was driven too hard;
    - clipped: the same counts in all those channels;
    - negative: a dark spectrum much too bright was subtracted.
    """
    return _SPOILERS[fault](scan, np.random.default_rng(seed))


def _no_peak(scan: LowLossScan, rng: np.random.Generator) -> Counts:
    # A noiseless detector would give nothing but zeros, which is another fault.
    noise = max(scan.instrument.readout, 1.0) * rng.standard_normal(scan.counts.shape)
    return noise.astype(np.float32)


def _shifted_out(scan: LowLossScan, rng: np.random.Generator) -> Counts:
    peaks = scan.counts.argmax(-1)
    beyond = int(np.ceil(2 * scan.instrument.peak.fwhm_ev / scan.instrument.scale_ev))
    channels = np.arange(scan.counts.shape[-1]) + peaks[..., None] + beyond
    moved = np.take_along_axis(scan.counts, channels.clip(max=scan.counts.shape[-1] - 1), -1)
    # Behind the end lies what lies at the end, with noise of its own.
    noise = scan.instrument.readout * rng.standard_normal(moved.shape)
    behind = channels >= scan.counts.shape[-1]
    return np.where(behind, moved + noise, moved).astype(np.float32)


def _saturated(scan: LowLossScan, _: np.random.Generator) -> Counts:
    limit = _SATURATION * scan.counts.max(-1, keepdims=True)
    return np.where(scan.counts > limit, np.float32(np.nan), scan.counts)


def _clipped(scan: LowLossScan, _: np.random.Generator) -> Counts:
    limit = _SATURATION * scan.counts.max(-1, keepdims=True)
    cut: Counts = np.minimum(scan.counts, limit).astype(np.float32)
    return cut


def _negative(scan: LowLossScan, _: np.random.Generator) -> Counts:
    dark = _DARK * scan.counts.max(-1, keepdims=True)
    rest: Counts = (scan.counts - dark).astype(np.float32)
    return rest


_SPOILERS: Final[dict[Fault, Callable[[LowLossScan, np.random.Generator], Counts]]] = {
    "no peak": _no_peak,
    "shifted out": _shifted_out,
    "saturated": _saturated,
    "clipped": _clipped,
    "negative": _negative,
}
