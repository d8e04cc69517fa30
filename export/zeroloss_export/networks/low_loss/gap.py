"""Band gap: the onset A (E - E_BG)^b of the spectrum without its zero-loss peak."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from zeroloss_export.networks.low_loss.peak import or_nothing
from zeroloss_export.networks.low_loss.subtract import Interpolated, percentiles, window_mean
from zeroloss_export.networks.low_loss.table import Noise, ZeroLossTable

EXPONENTS: Final = (0.25, 2.0)
"""Between which b is looked for; 0.5 is a direct gap, 1.5 an indirect one.

B. Rafferty and L. M. Brown, Phys. Rev. B 58, 10326 (1998).
"""
_B_STEP: Final = 0.25
_MOST_GAPS: Final = 64
_SEED: Final = 20260101
_SIGNIFICANT: Final = 3.0
"""Standard deviations by which the lower edge of the band stands above zero at a maximum."""
_RISE: Final = (0.5, 0.9)
"""Shares of the first maximum between which fits end; a maximum is flatter than a power."""
_GOLDEN: Final = 0.5 * (math.sqrt(5.0) - 1.0)
_DECISIVE: Final = 16.0
"""Improvement of chi squared by an onset that counts as one."""


class Gap(NamedTuple):
    """E_BG and b as 16, 50 and 84 % over the replicas, each [batch, 3], finite; [batch] the rest.

    ``found`` where most replicas have a significant onset, ``inside`` where for most it is not at
    the ends of what was tried; ``upper_ev`` is the highest upper end of the fits.
    """

    gap_ev: Tensor
    exponent: Tensor
    upper_ev: Tensor
    found: Tensor
    inside: Tensor


class GapFit(nn.Module):
    """Fits the onset to every replica of the subtracted spectrum, jointly.

    One replica is one zero-loss curve of the ensemble, scaled in the matching window, subtracted
    from the spectrum plus one realisation of its noise out of a fixed bank. For every pair of E_BG
    and b on a grid the amplitude follows from weighted least squares; the best pair is refined by
    parabolas along both. The fit begins at the lower end of the matching window.

    What cannot be known differs from replica to replica, so that it is part of the error. A fit
    ends where the spectrum, smoothed by its resolution, has come to 50 to 90 % of its first
    significant maximum; without a maximum at the upper end of ``table.gap_range_ev``. Half of the
    replicas fit the bare power law, as is usual; the other half what the resolution makes of it,
    whose onset is below E_BG by about half a width: that is right where nothing but the instrument
    softens the onset. A replica takes everything below its own boundary for zero loss: where that
    is too little, its E_BG is the boundary.
    T. E. Roest et al., Ultramicroscopy 222, 113202 (2021), sec. 4.
    """

    energy: Tensor
    bank: Tensor
    steps: Tensor
    bare: Tensor
    broad: Tensor
    shares: Tensor
    lowest: Tensor
    gaps: Tensor
    smoothing: Tensor
    above: Tensor

    def __init__(self, table: ZeroLossTable) -> None:
        super().__init__()
        if table.gap_range_ev is None:
            raise ValueError("the zero-loss table has no gap_range_ev: there is no gap to fit")
        energy = table.energy_ev
        low, high = table.gap_range_ev
        first = table.match.start
        stop = int((energy <= high).sum())
        if stop - first < 16 or not 0 < low < high - 8 * table.scale_ev:
            raise ValueError(f"gap_range_ev {low} to {high} eV is too short for a fit")
        self.columns = slice(first, stop)
        self.window = slice(0, table.match.stop - first)
        self.noise = table.noise
        energy = energy[self.columns]
        width = 0.5 * sum(table.trained_width_ev)
        self.margin_ev = max(3 * table.scale_ev, 0.5 * width)
        count = min(_MOST_GAPS, int((high - low) / table.scale_ev))
        # Even in their logarithm: low gaps are found more finely than high ones.
        ends = math.log(low), math.log(high - self.margin_ev)
        gaps = torch.linspace(*ends, count, dtype=torch.float64).exp()
        self.step = float((gaps[1] / gaps[0]).log())
        exponents = torch.arange(EXPONENTS[0], EXPONENTS[1] + 1e-6, _B_STEP, dtype=torch.float64)
        self.grid = (count, len(exponents))
        # They come ordered by the zero loss they leave: each half is to hold all kinds.
        order = torch.arange(len(table.replicas))
        order = torch.cat([order[::2], order[1::2]])
        replicas = table.replicas[order][:, :, self.columns].exp()
        self.curves = Interpolated(table.log_counts, replicas, table.settings)
        half = max(1, round(width / table.scale_ev))
        away = torch.arange(1 - half, half)
        triangle = half - away.abs().double()
        triangle = triangle / triangle.sum()

        def onsets(shift_ev: float) -> Tensor:
            beyond = (energy[:, None] - shift_ev - gaps).clamp(min=0.0)[..., None]
            return torch.where(beyond > 0, beyond**exponents, 0.0).flatten(1)

        shifts = (away * table.scale_ev).tolist()
        broad = sum(
            (part * onsets(shift) for part, shift in zip(triangle, shifts, strict=True)),
            torch.zeros(()),
        )
        self.share = float(triangle.square().sum()) * table.noise.pooling
        self.ahead = max(2 * half, round(0.5 / table.scale_ev))
        bounds = table.boundaries_ev
        if bounds is None:
            bounds = torch.full((len(replicas),), table.match_ev[1])
        floor = _above(torch.tensor([table.match_ev[1]], dtype=torch.float64), gaps)
        self.floor_ev = float(gaps[floor]) * (1.0 + 0.6 * self.step)
        bank = noise_bank(table.noise, len(replicas), stop - first + 1)
        buffers = {
            "energy": energy,
            "bank": bank,
            "steps": bank[:, 1:] - bank[:, :-1],
            "bare": onsets(0.0),
            "broad": broad,
            # Even, and without any relation to the order of the replicas.
            "shares": (_GOLDEN * torch.arange(len(replicas))) % 1.0,
            "lowest": gaps[_above(bounds[order].double(), gaps)][:, None],
            "gaps": gaps,
            "smoothing": triangle[None, None],
            "above": energy > table.match_ev[1] + 0.5 * width,
        }
        for name, value in buffers.items():
            value = value.float() if value.is_floating_point() else value
            self.register_buffer(name, value, persistent=False)

    def forward(
        self,
        aligned: Tensor,
        low: Tensor,
        counts: Tensor,
        place: Tensor,
        setting: Tensor | None = None,
    ) -> Gap:
        """``aligned`` and the lower edge of what is left, [batch, grid]; ``counts`` [batch] of the
        zero-loss peak at the channel ``place`` [batch].
        """
        aligned, low = aligned[:, self.columns], low[:, self.columns]
        measured = ~torch.isnan(aligned)
        aligned = or_nothing(aligned)
        variance = self._variance(aligned)
        lowest, upper = self._upper(low, variance)
        ends = lowest[:, None] + (upper - lowest)[:, None] * self.shares
        ends = ends[..., None]
        part = (place - place.floor())[:, None, None]
        noise = self.bank[None, :, :-1] + part * self.steps
        noisy = aligned[:, None] + noise * variance.sqrt()[:, None]
        model = self.curves(counts.clamp(min=1.0).log(), setting)
        left = noisy - model * window_mean(noisy[..., self.window])[..., None]
        used = measured[:, None] & (self.energy <= ends)
        weight = used.float() / variance[:, None]
        cut = len(self.shares) // 2
        products = left * weight
        gain = torch.cat(
            [
                _gain(products[:, :cut], weight[:, :cut], self.broad),
                _gain(products[:, cut:], weight[:, cut:], self.bare),
            ],
            1,
        )
        last = ends - self.margin_ev
        allowed = (self.gaps >= self.lowest) & (self.gaps <= last)
        gain = gain.reshape(-1, len(self.shares), *self.grid) * allowed[..., None].float()
        gap, best = _vertex(gain.amax(3))
        exponent, _ = _vertex(gain.amax(2))
        gap, exponent = self.gaps[0] * (self.step * gap).exp(), EXPONENTS[0] + _B_STEP * exponent
        inside = (gap > self.floor_ev) & (gap < last[..., 0] * (1.0 - 0.6 * self.step))
        inside = inside & (exponent > EXPONENTS[0] + 1e-3)
        decisive = best > _DECISIVE * self.noise.pooling
        return Gap(
            gap_ev=_interval(gap),
            exponent=_interval(exponent),
            upper_ev=upper,
            found=decisive.float().mean(1) > 0.5,
            inside=inside.float().mean(1) > 0.5,
        )

    def _variance(self, aligned: Tensor) -> Tensor:
        mean = nn.functional.avg_pool1d(aligned[:, None], 5, 1, 2, count_include_pad=False)[:, 0]
        return self.noise.gain * mean.clamp(min=1.0) + self.noise.readout**2

    def _upper(self, low: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Where the shares of the first significant maximum are reached, each [batch], eV."""
        low = or_nothing(low)
        smooth = self._smooth(low)
        sigma = (self.share * self._smooth(variance)).sqrt()
        ahead = nn.functional.pad(smooth[:, None], (0, self.ahead), value=-3e38)
        ahead = nn.functional.max_pool1d(ahead, self.ahead + 1, 1)[:, 0]
        there = self.above & (smooth > _SIGNIFICANT * sigma)
        end = self.energy[-1]
        top = torch.where(there & (smooth >= ahead), self.energy, end).amin(1, keepdim=True)
        height = torch.where(self.energy <= top, smooth, 0.0)
        height = height.amax(1, keepdim=True)
        ends = []
        for share in _RISE:
            near = torch.where(there & (smooth >= share * height), self.energy, end)
            ends.append(torch.minimum(near.amin(1, keepdim=True), top)[:, 0])
        return ends[0], ends[1]

    def _smooth(self, values: Tensor) -> Tensor:
        reach = self.smoothing.shape[2] // 2
        padded = nn.functional.pad(values[:, None], (reach, reach), mode="replicate")
        return nn.functional.conv1d(padded, self.smoothing)[:, 0]


def noise_bank(noise: Noise, rows: int, columns: int) -> Tensor:
    """Fixed realisations [rows, columns] of the detector's noise, variance 1, float64.

    Correlated as ``noise.correlation`` says; what no noise can have of it is left out.
    """
    lag = (torch.arange(columns)[:, None] - torch.arange(columns)).abs()
    known = torch.zeros(columns, dtype=torch.float64)
    known[0] = 1.0
    for index, value in enumerate(noise.correlation[: columns - 1]):
        known[index + 1] = value
    values, vectors = torch.linalg.eigh(known[lag])
    root = (vectors * values.clamp(min=0.0).sqrt()) @ vectors.T
    generator = torch.Generator().manual_seed(_SEED)
    bank = torch.randn(rows, columns, generator=generator, dtype=torch.float64) @ root
    # No realisation as a whole may pull all replicas to one side.
    bank = math.sqrt(rows / (rows - 1)) * (bank - bank.mean(0, keepdim=True))
    normed: Tensor = bank / root.square().sum(0).sqrt()
    return normed


def _above(bounds_ev: Tensor, gaps: Tensor) -> Tensor:
    """Index of the first of the rising ``gaps`` that is not below each bound."""
    return torch.searchsorted(gaps, bounds_ev).clamp(max=len(gaps) - 1)


def _vertex(gain: Tensor) -> tuple[Tensor, Tensor]:
    """Place of the largest value along the last dimension, by a parabola, and that value."""
    top = gain.argmax(-1, keepdim=True)
    last = gain.shape[-1] - 1
    before, after = (top - 1).clamp(min=0), (top + 1).clamp(max=last)
    left, middle, right = gain.gather(-1, before), gain.gather(-1, top), gain.gather(-1, after)
    bend = left - 2.0 * middle + right
    # Beside what was not allowed, which gains nothing, there is no parabola.
    sound = (bend < 0.0) & (top > 0) & (top < last) & (left > 0.0) & (right > 0.0)
    move = 0.5 * (left - right) / torch.where(sound, bend, -1.0)
    move = torch.where(sound, move, 0.0).clamp(-0.5, 0.5)
    return (top.float() + move)[..., 0], middle[..., 0]


def _interval(values: Tensor) -> Tensor:
    """16, 50 and 84 % of [batch, replica], as [batch, 3]."""
    return values.sort(1).values @ percentiles(values.shape[1])


def _gain(products: Tensor, weight: Tensor, basis: Tensor) -> Tensor:
    """Fall of chi squared [..., pair] by the best positive amplitude of every pair.

    ``products`` [..., energy] are spectrum times ``weight``, ``basis`` [energy, pair].
    """
    squares = (weight @ basis.square()).clamp(min=1e-12)
    return (products @ basis).clamp(min=0.0).square() / squares
