"""Single-scattering distribution, dielectric function and thickness of the specimen.

R. F. Egerton, Electron Energy-Loss Spectroscopy in the Electron Microscope, 3rd ed. (Springer,
2011), secs. 4.1 and 4.2 and appendix B.4: equation numbers below are of that book.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

from zeroloss.models.manifest import Parameter
from zeroloss_export.networks.low_loss.peak import or_nothing
from zeroloss_export.networks.low_loss.subtract import Interpolated, percentiles, window_mean
from zeroloss_export.networks.low_loss.table import ZeroLossTable

PARAMETERS: Final = (
    Parameter(
        name="refractive_index",
        description="of the specimen in visible light: the scale of its dielectric function",
        source="given",
        low=1.05,
        high=10.0,
    ),
    Parameter(
        name="beam_kev",
        unit="keV",
        description="beam energy",
        source="beam_kev",
        low=10.0,
        high=1500.0,
    ),
    Parameter(
        name="collection_mrad",
        unit="mrad",
        description="collection semi-angle of the spectrometer",
        source="collection_mrad",
        low=0.1,
        high=300.0,
    ),
)
_MOST_POINTS: Final = 512
_ITERATIONS: Final = 6
_DAMPING: Final = math.log(1e4)
_TAIL: Final = 0.1
"""Share of the range whose mean goes on beyond its end, as E^-3."""
_BOHR_NM: Final = 0.0529177
_REST_KEV: Final = 510.999
_PER_NM: Final = 2.0 * math.pi / 2.42631e-3
"""m0 c / hbar, 1/nm."""


class Dielectric(NamedTuple):
    """Of every curve, [batch, curve, point]; ``thickness_nm`` [batch, curve]."""

    eps_real: Tensor
    eps_imag: Tensor
    surface_loss: Tensor
    thickness_nm: Tensor


class LossGrid:
    """Energies above the zero-loss maximum: some channels of the table to a point."""

    def __init__(self, table: ZeroLossTable) -> None:
        width = 0.5 * sum(table.trained_width_ev) / table.scale_ev
        first = int((table.energy_ev <= 0.5 * table.scale_ev).sum())
        channels = table.curves.shape[2] - first
        self.merged = max(1, int(width / 4.0), math.ceil(channels / _MOST_POINTS))
        self.points = channels // self.merged
        self.columns = slice(first, first + self.points * self.merged)
        energy = table.energy_ev[self.columns]
        self.energy = energy.reshape(self.points, self.merged).mean(1)
        self.step_ev = self.merged * table.scale_ev

    def sums(self, values: Tensor) -> Tensor:
        """[..., grid of the table] to sums over the channels of every point [..., point]."""
        cut = values[..., self.columns]
        shape = [-1, *cut.shape[1:-1], self.points, self.merged]
        return cut.reshape(shape).sum(-1)


class SingleScattering(nn.Module):
    """Takes multiple scattering out: the Fourier-log method with the zero-loss peak as a delta.

    With J = I0 (delta + p) the logarithm of the transform of J / I0 is that of the single
    scattering (eq. 4.10). Its derivative needs no complex logarithm: m s_m is the inverse transform
    of FT(m p) / FT(delta + p). Both sequences are damped by a falling exponential, undone in the
    end, and padded to twice their length: what wraps around is below 1e-8, and, as the logarithm is
    causal, nothing beyond the range is missing inside it.
    """

    cosine: Tensor
    sine: Tensor
    damping: Tensor
    index: Tensor
    weight: Tensor

    def __init__(self, points: int) -> None:
        super().__init__()
        index = torch.arange(1, points + 1, dtype=torch.float64)
        bins = torch.arange(points + 1, dtype=torch.float64)
        # Angles of whole turns left out while they are exact.
        angle = torch.remainder(index[:, None] * bins, 2 * points) * (math.pi / points)
        weight = torch.full((points + 1,), 1.0 / points, dtype=torch.float64)
        weight[[0, -1]] *= 0.5
        buffers = {
            "cosine": angle.cos(),
            "sine": angle.sin(),
            "damping": (-index * (_DAMPING / points)).exp(),
            "index": index,
            "weight": weight,
        }
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, loss: Tensor) -> Tensor:
        """``loss`` [..., point] in units of the zero-loss counts to single scattering [..., point].

        Both are probabilities per point; the sum of the result is t/λ within the range.
        """
        damped = loss.double() * self.damping
        moment = damped * self.index
        real, imag = 1.0 + damped @ self.cosine, -(damped @ self.sine)
        above_real, above_imag = moment @ self.cosine, -(moment @ self.sine)
        size = (real.square() + imag.square()).clamp(min=1e-12)
        ratio_real = (above_real * real + above_imag * imag) / size * self.weight
        ratio_imag = (above_imag * real - above_real * imag) / size * self.weight
        back = ratio_real @ self.cosine.T - ratio_imag @ self.sine.T
        return (back / (self.damping * self.index)).float()


class KramersKronig(nn.Module):
    """Dielectric function of single-scattering distributions, surface losses taken out.

    The scale of Im(-1/eps) follows from the refractive index (eq. 4.27), Re(1/eps) from it by the
    Kramers-Kronig relation (eq. 4.22; the integral of a loss that is constant within a point is
    exact), the loss at both surfaces from eps (eq. 4.31); six times over,
    which leaves a few per cent. Beyond the range the loss function goes on as E^-3, as that of free
    electrons.
    """

    energy: Tensor
    transform: Tensor
    whole: Tensor

    def __init__(self, energy: Tensor, step_ev: float) -> None:
        super().__init__()
        self.step_ev = step_ev
        energy = energy.double()
        low, high = energy - 0.5 * step_ev, energy + 0.5 * step_ev
        squared = energy.square()[:, None]
        upper, lower = (high.square() - squared).abs(), (low.square() - squared).abs()
        # An even spacing makes 0 of no channel; rounding must not.
        floor = 1e-9 * step_ev**2
        transform = 0.5 * (upper.clamp(min=floor) / lower.clamp(min=floor)).log()
        end = float(high[-1])
        beyond = (0.5 / energy * ((end + energy) / (end - energy)).log() - 1.0 / end) / energy**2
        tail = (torch.arange(len(energy)) >= (1.0 - _TAIL) * len(energy)).double()
        tail = tail * (energy / end) ** 3 / tail.sum()
        beyond = tail[:, None] * (beyond * end**3)
        buffers = {
            "energy": energy,
            "transform": (transform.T + beyond) * (2.0 / math.pi),
            # Of the sum rule (eq. 4.27), what lies beyond the range included.
            "whole": (step_ev / energy + tail / 3.0)[:, None],
        }
        for name, value in buffers.items():
            self.register_buffer(name, value.float(), persistent=False)

    def forward(
        self, single: Tensor, refractive_index: Tensor, beam_kev: Tensor, collection_mrad: Tensor
    ) -> Dielectric:
        """``single`` [batch, curve, point] per point; the rest [batch]."""
        gamma = (1.0 + beam_kev / _REST_KEV)[:, None, None]
        speed2 = 1.0 - 1.0 / gamma.square()
        # m0 v^2 in eV; T of the equations is half of it.
        energy2 = 1000.0 * _REST_KEV * speed2
        beta = (1e-3 * collection_mrad)[:, None, None]
        theta = self.energy / (gamma * energy2)
        aperture = (beta / theta).square().log1p()
        momentum = _PER_NM * gamma * speed2.sqrt()
        angles = (beta / theta).atan() / theta - beta / (beta.square() + theta.square())
        surface_scale = 2.0 * angles / (math.pi * _BOHR_NM * momentum * energy2)
        per_ev = single / self.step_ev
        sum_rule = (0.5 * math.pi * (1.0 - refractive_index.pow(-2)))[:, None, None]
        # A specimen so thin, or so noisy, that more than all is surface: no iteration mends it.
        most = per_ev.abs()
        least = -most
        inelastic = per_ev
        for _ in range(_ITERATIONS):
            loss = inelastic / aperture
            scale = (loss @ self.whole).clamp(min=1e-12) / sum_rule
            imag = loss / scale
            real = 1.0 - imag @ self.transform
            # 1/eps being z, Im(-4 / (1 + eps)) is Im(4 / (1 + z)).
            size = ((1.0 + real).square() + imag.square()).clamp(min=1e-4)
            surface = surface_scale * (imag * (4.0 / size - 1.0))
            surface = torch.minimum(torch.maximum(surface, least), most)
            inelastic = per_ev - surface
        size = (real.square() + imag.square()).clamp(min=1e-4)
        thickness = (scale * energy2)[..., 0] * (math.pi * _BOHR_NM)
        return Dielectric(real / size, imag / size, surface, thickness)


class LossCurves(nn.Module):
    """The loss of a spectrum, in units of its zero-loss counts, for several curves of a table."""

    used: Tensor

    def __init__(self, table: ZeroLossTable, grid: LossGrid, curves: Tensor) -> None:
        """``curves`` [curve, node, grid]: logarithms as ``table.curves`` or ``table.replicas``."""
        super().__init__()
        self.grid = grid
        self.window = table.match
        merged = grid.sums(curves.double().exp()).float()
        self.curves = Interpolated(table.log_counts, merged, table.settings)
        above = (table.energy_ev > table.energy_ev[table.match.stop - 1]).double()
        self.register_buffer("used", grid.sums(above[None])[0].float() / grid.merged)

    def forward(
        self, aligned: Tensor, counts: Tensor, below: Tensor, setting: Tensor | None = None
    ) -> Tensor:
        """[batch, grid of the table], [batch], [batch] to [batch, curve, point].

        ``counts`` of the zero-loss peak, ``below`` those up to the end of the matching window.
        What was not measured counts as nothing.
        """
        level = window_mean(aligned[:, self.window])
        summed = self.grid.sums(aligned)
        used = torch.where(torch.isnan(summed), 0.0, self.used)[:, None]
        model = self.curves(counts.clamp(min=1.0).log(), setting, level) * used
        zero_loss = below[:, None, None] + model.sum(2, keepdim=True)
        left = (or_nothing(summed)[:, None] * used) - model
        share: Tensor = left / zero_loss.clamp(min=1.0)
        return share


def band_of(values: Tensor) -> Tensor:
    """16, 50 and 84 % over the curves: [batch, curve, point] to [batch, 3, point]."""
    ranked = values.transpose(1, 2).sort(2).values
    return (ranked @ percentiles(values.shape[1])).transpose(1, 2)
