"""What training hands to the graph: zero-loss curves on an energy grid, for every zero-loss sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import torch
from torch import Tensor

_FORMAT: Final = 1
_LARGEST_FILE: Final = 1 << 29


@dataclass(frozen=True)
class Noise:
    """Noise of one channel of the detector.

    The variance is ``gain * counts + readout**2``; ``correlation`` are the correlation coefficients
    with the next channel, the one after it, and so on, zero beyond.
    """

    gain: float = 1.0
    readout: float = 0.0
    correlation: tuple[float, ...] = ()

    @property
    def pooling(self) -> float:
        """Variance of a sum over many channels, in units of the sum of their variances."""
        return 1.0 + 2.0 * sum(self.correlation)


@dataclass(frozen=True, eq=False)
class Setting:
    """A setting of the instrument that the curves depend on: ``nodes`` [setting], rising.

    ``name`` is beam_kev or dwell_s, which a run tells, or a name of the user's own. Beyond
    ``trained`` the curves are extrapolated and their band is wide.
    """

    name: str
    nodes: Tensor
    trained: tuple[float, float]


@dataclass(frozen=True, eq=False)
class ZeroLossTable:
    """Zero-loss curves of an ensemble of replicas; tensors float32.

    Energies are relative to the maximum of the zero-loss peak: grid point k is at ``first_ev +
    k * scale_ev``. Up to ``match_ev[1]`` the counts of the pixel are the zero-loss peak itself;
    above, it is a curve of the table scaled so that its mean in the window ``match_ev`` is that of
    the pixel. Raises ValueError where the parts do not fit together.
    """

    scale_ev: float
    first_ev: float
    match_ev: tuple[float, float]
    log_counts: Tensor
    """[node], rising: ln of the zero-loss counts as ``peak.PeakFinder`` gives them."""
    curves: Tensor
    """[3, node, grid]: 16, 50 and 84 % over replicas of ln(curve / its mean in the window). With a
    ``setting`` there are as many nodes of ln N for each of its values, one value after another."""
    replicas: Tensor
    """[replica, node, grid]: the same logarithm for whole replicas."""
    trained_width_ev: tuple[float, float]
    trained_log_counts: tuple[float, float]
    noise: Noise
    gap_range_ev: tuple[float, float] | None = None
    """Energies between which a band gap is looked for; None: no gap is fitted."""
    peaks: int = 0
    """How many of the strongest loss peaks are given."""
    boundaries_ev: Tensor | None = None
    """[replica]: energies up to which each replica takes the whole spectrum for zero loss, so that
    no gap of its can lie below; None: ``match_ev[1]`` for all."""
    setting: Setting | None = None

    def __post_init__(self) -> None:
        self.validate()

    @property
    def energy_ev(self) -> Tensor:
        """Energies of the grid in eV, float64, shape [grid]."""
        steps = torch.arange(self.curves.shape[2], dtype=torch.float64)
        return self.first_ev + self.scale_ev * steps

    @property
    def settings(self) -> Tensor | None:
        """Nodes [setting] of the instrument setting that the curves depend on, if any."""
        return None if self.setting is None else self.setting.nodes

    @property
    def match(self) -> slice:
        """Grid points of the matching window, its ends included."""
        energy = self.energy_ev
        # A point that rounding has put beside an end is on it.
        slack = 1e-3 * self.scale_ev
        inside = energy >= self.match_ev[0] - slack
        inside &= energy <= self.match_ev[1] + slack
        first = int(inside.int().argmax())
        return slice(first, first + int(inside.sum()))

    def validate(self) -> None:
        """Raise ValueError, in one sentence, unless the parts fit together."""
        nodes, grid = self.log_counts.shape[0], self.curves.shape[-1]
        if self.log_counts.ndim != 1 or nodes < 2 or not bool((self.log_counts.diff() > 0).all()):
            _refuse("log_counts must be at least 2 rising numbers", self.log_counts)
        if self.setting is not None:
            nodes *= len(self.setting.nodes)
            if len(self.setting.nodes) < 2 or not bool((self.setting.nodes.diff() > 0).all()):
                _refuse("a setting must have at least 2 rising nodes", self.setting.nodes)
        if self.curves.shape != (3, nodes, grid):
            _refuse(f"curves must be [3, {nodes}, grid]", list(self.curves.shape))
        if self.replicas.shape[1:] != (nodes, grid) or self.replicas.shape[0] < 2:
            _refuse(f"replicas must be [2 or more, {nodes}, {grid}]", list(self.replicas.shape))
        for name in ("log_counts", "curves", "replicas"):
            tensor = getattr(self, name)
            if tensor.dtype != torch.float32 or not bool(torch.isfinite(tensor).all()):
                _refuse(f"{name} must be finite float32", tensor.dtype)
        if not bool((self.curves.diff(dim=0) >= 0).all()):
            _refuse("curves must rise from 16 to 84 %", "others")
        if not self.scale_ev > 0 or grid < 8:
            _refuse("the grid needs scale_ev > 0 and 8 points", f"{self.scale_ev} and {grid}")
        last = self.first_ev + self.scale_ev * (grid - 1)
        low, high = self.match_ev
        if not self.first_ev < 0 < low < high < last or self.match.stop - self.match.start < 2:
            _refuse(f"match_ev must rise above 0 within {self.first_ev} to {last} eV", (low, high))
        means = self.replicas[:, :, self.match].exp().mean(2)
        if not bool(((means - 1.0).abs() < 1e-3).all()):
            off = float(means.flatten()[(means - 1.0).abs().argmax()])
            _refuse("every replica must have the mean 1 in the matching window", f"{off:g}")
        for name in ("trained_width_ev", "trained_log_counts", "gap_range_ev"):
            limits = getattr(self, name)
            if limits is not None and not limits[0] < limits[1]:
                _refuse(f"{name} must rise", limits)
        if not (self.noise.gain > 0 and self.noise.readout >= 0 and self.noise.pooling > 0):
            _refuse("the noise must have gain > 0, readout >= 0 and a pooling > 0", self.noise)
        bounds = self.boundaries_ev
        if bounds is not None and (bounds.shape != self.replicas.shape[:1] or bounds.isnan().any()):
            _refuse(f"boundaries_ev must be {len(self.replicas)} energies", bounds)
        if not 0 <= self.peaks <= 16:
            _refuse("peaks must be 0 to 16", self.peaks)

    def save(self, path: Path) -> None:
        """Write the table as a .npz file without pickled objects."""
        numbers: dict[str, Any] = {
            "format": _FORMAT,
            "scale_ev": self.scale_ev,
            "first_ev": self.first_ev,
            "match_ev": self.match_ev,
            "trained_width_ev": self.trained_width_ev,
            "trained_log_counts": self.trained_log_counts,
            "gain": self.noise.gain,
            "readout": self.noise.readout,
            "correlation": self.noise.correlation,
            "gap_range_ev": self.gap_range_ev or (),
            "peaks": self.peaks,
        }
        arrays = {name: np.asarray(value, np.float64) for name, value in numbers.items()}
        for name in ("log_counts", "curves", "replicas"):
            arrays[name] = getattr(self, name).numpy()
        bounds = self.boundaries_ev
        if self.setting is not None:
            arrays["setting_name"] = np.asarray(self.setting.name)
            arrays["setting_nodes"] = self.setting.nodes.numpy()
            arrays["setting_trained"] = np.asarray(self.setting.trained, np.float64)
        arrays["boundaries_ev"] = np.zeros(0) if bounds is None else bounds.numpy()
        with path.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> ZeroLossTable:
        """Read a saved table; ValueError if the file holds none."""
        if path.stat().st_size > _LARGEST_FILE:
            raise ValueError(f"{path} is larger than {_LARGEST_FILE >> 20} MiB: no zero-loss table")
        with np.load(path, allow_pickle=False) as stored:
            try:
                return cls._from_arrays(stored)
            except KeyError as error:
                raise ValueError(f"{path} is no zero-loss table: {error.args[0]}") from None

    @classmethod
    def _from_arrays(cls, stored: Mapping[str, Any]) -> ZeroLossTable:
        if int(stored["format"]) != _FORMAT:
            _refuse(f"the format must be {_FORMAT}", int(stored["format"]))

        bounds = stored["boundaries_ev"]

        def pair(name: str) -> tuple[float, float]:
            low, high = stored[name].tolist()
            return low, high

        return cls(
            scale_ev=float(stored["scale_ev"]),
            first_ev=float(stored["first_ev"]),
            match_ev=pair("match_ev"),
            log_counts=torch.from_numpy(stored["log_counts"]),
            curves=torch.from_numpy(stored["curves"]),
            replicas=torch.from_numpy(stored["replicas"]),
            trained_width_ev=pair("trained_width_ev"),
            trained_log_counts=pair("trained_log_counts"),
            noise=Noise(
                float(stored["gain"]),
                float(stored["readout"]),
                tuple(stored["correlation"].tolist()),
            ),
            gap_range_ev=pair("gap_range_ev") if stored["gap_range_ev"].size else None,
            peaks=int(stored["peaks"]),
            boundaries_ev=torch.from_numpy(bounds) if bounds.size else None,
            setting=Setting(
                str(stored["setting_name"]),
                torch.from_numpy(stored["setting_nodes"]),
                pair("setting_trained"),
            )
            if "setting_name" in stored
            else None,
        )


def _refuse(expected: str, got: object) -> NoReturn:
    raise ValueError(f"zero-loss table: {expected}, got {got}")
