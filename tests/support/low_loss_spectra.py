"""Simulated low-loss scans as the training of a zero-loss peak reads them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from zeroloss_export.networks.low_loss.align import align
from zeroloss_export.networks.low_loss.peak import PeakFinder
from zeroloss_export.simulate.low_loss import Instrument, LowLossScan
from zeroloss_export.training.zlp.spectra import LowLossSpectra

INSTRUMENT = Instrument(scale_ev=0.05, channels=512)


def rows_of(scan: LowLossScan, counts: ArrayLike | None = None) -> NDArray[np.float64]:
    """Counts [pixels, channels] of a scan, or others of its shape."""
    values = np.asarray(scan.counts if counts is None else counts, np.float64)
    return values.reshape(-1, values.shape[-1])


def spectra_of(scan: LowLossScan, counts: ArrayLike | None = None) -> LowLossSpectra:
    """A scan, or other counts of its instrument [..., channels], without a varied setting."""
    rows = rows_of(scan, counts)
    instrument = scan.instrument
    return LowLossSpectra(rows, np.zeros(len(rows)), instrument.offset_ev, instrument.scale_ev)


def true_zero_loss(scan: LowLossScan, energy_ev: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the true zero-loss counts at even energies above the maxima that are found."""
    counts = torch.from_numpy(rows_of(scan)).float()
    offset = torch.full((len(counts),), scan.instrument.offset_ev)
    scale = torch.full((len(counts),), scan.instrument.scale_ev)
    place = PeakFinder()(counts, offset, scale).place
    step = float(energy_ev[1] - energy_ev[0])
    true = torch.from_numpy(rows_of(scan, scan.zero_loss)).float()
    first = float(energy_ev[0])
    return np.asarray(align(true, place, scale, first, step, len(energy_ev)).nanmean(0).tolist())
