"""From a specimen to the counts of a scan over it, in two energy ranges, and what is true of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from zeroloss_export.physics.edges import edge_groups
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.simulate.draw import Draw
from zeroloss_export.simulate.specimens.core_loss import CoreLosses
from zeroloss_export.simulate.specimens.materials import CARBON, Material
from zeroloss_export.simulate.specimens.shapes import SPECIMENS, Design

Floats = NDArray[np.float64]

NM2_PER_BARN: Final = 1e-10
LOW_LOSS_BEFORE_EV: Final = 25.0
DRIFT_SHARE: Final = 0.12
"""How far the specimen moves during the scan, as a share of its field."""
DRIFT_EV: Final = 0.6
"""How far the energy axis walks during the scan (standard deviation)."""
_BEFORE_EV: Final = 240.0
_LOWEST_EV: Final = 40.0
_AFTER_EV: Final = 30.0
_BLOCK: Final = 64
_STEPS: Final = 3
_BEFORE_EDGE_EV: Final = 10.0
_AFTER_EDGE_EV: Final = 25.0
_MOST_COUNTS: Final = int(np.iinfo(np.uint32).max)


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the specimen is measured.

    ``dose`` is the number of electrons a pixel that reach the spectrometer during the core-loss
    exposure, ``exposure_ratio`` times those of the low-loss exposure. An electron gives ``gain``
    counts; channels differ by ``gain_noise`` (relative standard deviation, the same for all
    pixels). ``drift`` moves specimen and energy axis, ``contamination`` grows carbon on it.
    """

    beam_kev: float = 200.0
    convergence_mrad: float = 22.0
    collection_mrad: float = 36.0
    dose: float = 3e8
    exposure_ratio: float = 100.0
    resolution_ev: float = 1.0
    gain: float = 1.0
    gain_noise: float = 0.0
    drift: bool = False
    contamination: bool = False

    def __post_init__(self) -> None:
        positive = ("dose", "exposure_ratio", "resolution_ev", "gain")
        for name in positive:
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"expected a {name} above 0, got {getattr(self, name)}")
        if not 0 <= self.gain_noise < 0.5:
            raise ValueError(f"expected a gain_noise of 0 to 0.5, got {self.gain_noise}")


@dataclass(frozen=True, slots=True)
class EnergyRange:
    """The written axis of a range: energy of the centre of its first channel, step, channels."""

    offset_ev: float
    scale_ev: float
    channels: int

    @property
    def energy_ev(self) -> Floats:
        """Energies [channels]."""
        return self.offset_ev + self.scale_ev * np.arange(self.channels, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class SpecimenScan:
    """Counts with everything that is true about them.

    ``core_counts`` and ``low_counts`` are uint32 [rows, columns, channels], ``core_mean`` and
    ``low_mean`` float32 what they are drawn from. ``areal_density`` [elements, rows, columns] is in
    atoms/nm2, in the order of ``elements``, the atomic numbers rising; ``thickness`` [rows,
    columns] is t/lambda, ``thickness_nm`` the same in nm, ``shift_ev`` how far the true energies
    lie below the written ones: the zero-loss peak is at +shift_ev.
    """

    name: str
    title: str
    conditions: Conditions
    step_nm: tuple[float, float]
    core: EnergyRange
    low: EnergyRange
    core_counts: NDArray[np.uint32]
    low_counts: NDArray[np.uint32]
    core_mean: NDArray[np.float32]
    low_mean: NDArray[np.float32]
    elements: tuple[str, ...]
    areal_density: Floats
    thickness: Floats
    thickness_nm: Floats
    shift_ev: Floats

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.thickness.shape
        return rows, columns

    @property
    def visible(self) -> tuple[str, ...]:
        """Elements with an edge that starts in the core-loss range, away from its ends."""
        energies = self.core.energy_ev
        low, high = energies[0] + _BEFORE_EDGE_EV, energies[-1] - _AFTER_EDGE_EV
        seen = {group.element for group in edge_groups() if low <= group.onset_ev <= high}
        return tuple(element for element in self.elements if element in seen)

    def atomic_fraction(self, elements: tuple[str, ...] | None = None) -> Floats:
        """Atomic percent [elements, rows, columns] among some elements (default: the visible)."""
        chosen = [self.elements.index(item) for item in elements or self.visible]
        density = self.areal_density[chosen]
        total = density.sum(0)
        share = np.divide(density, total, out=np.zeros_like(density), where=total > 0)
        return np.asarray(100 * share, np.float64)


def simulate(
    name: str,
    shape: tuple[int, int] = (32, 48),
    seed: int = 1,
    conditions: Conditions | None = None,
) -> SpecimenScan:
    """A raster scan of ``shape`` (rows, columns) over the field of a specimen.

    The core losses of every pixel are atoms/nm2 times the project's cross sections, on their
    background, scattered by the very low loss of that pixel (Egerton, Electron Energy-Loss
    Spectroscopy in the Electron Microscope, 3rd ed. (2011), section 4.1), in Poisson counts. The
    same arguments give the same scan, and a drawn near-edge structure belongs to a material and
    a seed, not to a pixel. Raises ValueError for an unknown name, a scan without pixels, or counts
    that 32 bits do not hold.
    """
    if name not in SPECIMENS:
        raise ValueError(f"expected one of the specimens {', '.join(SPECIMENS)}, got {name!r}")
    if min(shape) < 1:
        raise ValueError(f"expected at least one row and one column, got {shape}")
    given, design = conditions or Conditions(), SPECIMENS[name]
    draw = Draw(seed)
    step = (design.field_nm[0] / shape[0], design.field_nm[1] / shape[1])
    materials, depth = _depth(design, shape, step, seed, given, draw)
    shift = _shift(shape, given, draw)
    core = EnergyRange(design.offset_ev, design.scale_ev, design.channels)
    # A channel of the low loss lies at 0 eV, as the range of the same step is reckoned from there.
    before = round(LOW_LOSS_BEFORE_EV / design.scale_ev)
    low = EnergyRange(-before * design.scale_ev, design.scale_ev, design.channels // 2)
    free_path = [
        item.mean_free_path_nm(given.beam_kev, given.convergence_mrad, given.collection_mrad)
        for item in materials
    ]
    scatterings = depth / np.array(free_path)[:, None, None]
    core_mean, low_mean = _means(materials, depth, scatterings, shift, core, low, given, seed)
    per_atom = np.array(
        [[m.units_per_nm3 * m.atoms.get(e, 0.0) for m in materials] for e in ELEMENTS]
    )
    density = np.tensordot(per_atom, depth, 1)
    there = [index for index, row in enumerate(per_atom) if row.any()]
    return SpecimenScan(
        name=name,
        title=f"{design.title} (simulated)",
        conditions=given,
        step_nm=step,
        core=core,
        low=low,
        core_counts=_counts(core_mean, given, draw),
        low_counts=_counts(low_mean, given, draw),
        core_mean=core_mean,
        low_mean=low_mean,
        elements=tuple(ELEMENTS[index] for index in there),
        areal_density=density[there],
        thickness=scatterings.sum(0),
        thickness_nm=depth.sum(0),
        shift_ev=shift,
    )


def pure_spectra(
    materials: tuple[Material, ...],
    scatterings: float,
    core: EnergyRange,
    conditions: Conditions | None = None,
    seed: int = 1,
) -> Floats:
    """Expected core-loss counts [material, channel] of each material, ``scatterings`` t/lambda
    thick."""
    given = conditions or Conditions()
    scope = given.beam_kev, given.convergence_mrad, given.collection_mrad
    depth = scatterings * np.diag([item.mean_free_path_nm(*scope) for item in materials])
    times = scatterings * np.eye(len(materials))
    low = EnergyRange(0.0, core.scale_ev, 1)
    still = np.zeros((1, len(materials)))
    mean, _ = _means(materials, depth[:, None], times[:, None], still, core, low, given, seed)
    return np.asarray(mean[0], np.float64)


def _depth(
    design: Design,
    shape: tuple[int, int],
    step: tuple[float, float],
    seed: int,
    given: Conditions,
    draw: Draw,
) -> tuple[tuple[Material, ...], Floats]:
    """The materials, and how thick each is where the beam really was, nm [material, y, x]."""
    rows, columns = shape
    y, x = np.meshgrid(
        (np.arange(rows) + 0.5) * step[0], (np.arange(columns) + 0.5) * step[1], indexing="ij"
    )
    time = np.arange(rows * columns).reshape(shape) / (rows * columns)
    if given.drift:
        angle = float(draw.uniform(0.0, 2 * np.pi, 1)[0])
        far = DRIFT_SHARE * min(design.field_nm)
        # The stage creeps ever slower.
        moved = far * (1 - np.exp(-2 * time)) / (1 - np.exp(-2))
        y, x = y + moved * np.sin(angle), x + moved * np.cos(angle)
    materials, depth = design.materials, design.shape(y, x, seed)
    if not given.contamination:
        return materials, depth
    carbon = 2.0 + 8.0 * time + 4.0 * np.exp(-(y**2 + x**2) / (0.2 * design.field_nm[0] ** 2))
    if CARBON in materials:
        depth[materials.index(CARBON)] += carbon
        return materials, depth
    return (*materials, CARBON), np.concatenate([depth, carbon[None]])


def _shift(shape: tuple[int, int], given: Conditions, draw: Draw) -> Floats:
    if not given.drift:
        return np.zeros(shape)
    steps = draw.normal(*shape).double().numpy().reshape(-1)
    walk = np.cumsum(steps) / np.sqrt(len(steps))
    return DRIFT_EV * np.asarray(walk, np.float64).reshape(shape)


def _means(
    materials: tuple[Material, ...],
    depth: Floats,
    scatterings: Floats,
    shift: Floats,
    core: EnergyRange,
    low: EnergyRange,
    given: Conditions,
    seed: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Expected counts of both ranges, [rows, columns, channels]."""
    # Worked out finer than the channels, which take three steps each, the middle one at their own
    # energy: a peak as narrow as a channel cannot be moved by parts of it.
    scale, steps = core.scale_ev / _STEPS, core.channels * _STEPS
    # What is lost before the range scatters into it; what is beyond is blurred into its end.
    before = int(min(_BEFORE_EV, core.offset_ev - _LOWEST_EV) / scale) + _STEPS // 2
    length = before + steps + int(_AFTER_EV / scale)
    size = 1 << (length + low.channels * _STEPS).bit_length()
    axis = core.offset_ev + scale * (np.arange(length, dtype=np.float64) - before)
    before -= _STEPS // 2
    losses = CoreLosses(given.beam_kev, given.convergence_mrad, given.collection_mrad)
    electrons = given.dose * given.gain
    single = np.stack(
        [
            electrons * NM2_PER_BARN * scale * item.units_per_nm3
            * losses.material(item, axis, seed + 1000 * number)
            for number, item in enumerate(materials)
        ]
    )  # fmt: skip
    losses_ev = scale * np.arange(size // 2, dtype=np.float64)
    valence = np.stack([item.single_losses(losses_ev) for item in materials])
    core_waves = torch.fft.rfft(torch.from_numpy(single), n=size)
    valence_waves = torch.fft.rfft(torch.from_numpy(valence), n=size) - 1
    omega = 2 * torch.pi * torch.fft.rfftfreq(size, scale, dtype=torch.float64)
    sigma = given.resolution_ev / (8 * np.log(2)) ** 0.5
    blur = torch.exp(-0.5 * (omega * sigma) ** 2)
    flat_depth = torch.from_numpy(depth.reshape(len(materials), -1).T).to(torch.complex128)
    flat_times = torch.from_numpy(scatterings.reshape(len(materials), -1).T).to(torch.complex128)
    flat_shift = torch.from_numpy(shift.reshape(-1))
    first = round(low.offset_ev / scale) - _STEPS // 2
    core_parts, low_parts = [], []
    for begin in range(0, len(flat_shift), _BLOCK):
        part = slice(begin, begin + _BLOCK)
        transfer = blur * torch.exp(flat_times[part] @ valence_waves)
        transfer = transfer * torch.exp(-1j * omega * flat_shift[part, None])
        mixed = torch.fft.irfft(transfer * (flat_depth[part] @ core_waves), n=size)
        core_parts.append(_binned(mixed[:, before : before + steps]))
        spread = torch.fft.irfft(transfer, n=size).roll(-first, 1)[:, : low.channels * _STEPS]
        low_parts.append(_binned(spread * (electrons / given.exposure_ratio)))
    shape = shift.shape
    return (
        torch.cat(core_parts).reshape(*shape, -1).numpy(),
        torch.cat(low_parts).reshape(*shape, -1).numpy(),
    )


def _binned(values: torch.Tensor) -> torch.Tensor:
    return values.reshape(len(values), -1, _STEPS).sum(2).clamp(min=0).float()


def _counts(mean: NDArray[np.float32], given: Conditions, draw: Draw) -> NDArray[np.uint32]:
    electrons = draw.poisson(torch.from_numpy(mean).double() / given.gain)
    channel = 1 + given.gain_noise * draw.normal(mean.shape[-1]).double()
    counts = (electrons * given.gain * channel).round().clamp(min=0).numpy()
    if counts.max() > _MOST_COUNTS:
        raise ValueError(
            f"expected a dose and gain that give at most {_MOST_COUNTS} counts in a channel, got "
            f"{counts.max():.3g} with a dose of {given.dose:g}, an exposure ratio of "
            f"{given.exposure_ratio:g} and a gain of {given.gain:g}"
        )
    return counts.astype(np.uint32)
