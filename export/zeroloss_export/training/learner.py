"""One network that learns: its weights, their average, its optimiser and its learning rate."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zeroloss_export.networks import build
from zeroloss_export.networks.axis_check import ERROR_EV, AxisCheck
from zeroloss_export.networks.grid import grid_of
from zeroloss_export.networks.warm_start import start_from
from zeroloss_export.training.loss import axis_loss, identification_loss
from zeroloss_export.training.recovery import recover_members
from zeroloss_export.training.schedule import Fall, Schedule

CHECKPOINT_FORMAT = 1


@dataclass(frozen=True, slots=True)
class LearnerSettings:
    """What one member of a run has for itself; stored in its checkpoints.

    It learns from every ``every``-th batch. ``teaches``: its answers are targets for those that do
    not teach. ``start`` is a checkpoint or the folder of a package, empty for random weights.
    """

    architecture: str = "mixer"
    seed: int = 1
    learning_rate: float = 2e-3
    every: int = 1
    teaches: bool = False
    start: str = ""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A batch with its targets [batch, 81]; ``taught`` is a teacher's probability, if any.

    ``axis_error_ev`` [batch, 2] is for a check of the axis.
    """

    present: Tensor
    known: Tensor
    axis_error_ev: Tensor
    taught: Tensor | None
    taught_share: float
    soft_f1_weight: float


class Learner:
    """Takes steps; the averaged weights are what is checked and exported."""

    def __init__(
        self, settings: LearnerSettings, weight_decay: float, fall: Fall, warmup_spectra: int
    ) -> None:
        self.settings = settings
        torch.manual_seed(settings.seed)
        self.network = build(settings.architecture)
        self.average = build(settings.architecture)
        self.lineage: list[str] = []
        self.before = 0
        self.seen = 0
        if settings.start:
            self._start(Path(settings.start))
        self.average.load_state_dict(self.network.state_dict())
        self.average.eval()
        self.grid = grid_of(self.network)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), settings.learning_rate, weight_decay=weight_decay
        )
        self.schedule = Schedule(fall, warmup_spectra)
        self.history: list[dict[str, float]] = []

    def forward(self, features: Tensor, bfloat16: bool) -> Tensor:
        """Logits [batch, label] with gradients."""
        self.network.train()
        with torch.autocast(features.device.type, torch.bfloat16, enabled=bfloat16):
            logits: Tensor = self.network(features)
        return logits.float()

    def learn(self, logits: Tensor, lesson: Lesson, progress: float, ema_spectra: int) -> float:
        """One step on the logits of ``forward``; returns the loss."""
        loss = self._loss(logits, lesson)
        rate = self.settings.learning_rate * self.schedule.at(self.seen, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.seen += len(logits)
        self._follow(len(logits), ema_spectra)
        return float(loss.detach())

    def _loss(self, logits: Tensor, lesson: Lesson) -> Tensor:
        if isinstance(self.network, AxisCheck):
            return axis_loss(logits, lesson.present[:, -1], lesson.axis_error_ev / ERROR_EV)
        # Networks of a paper have no label for what is no spectrum.
        place = slice(logits.shape[1])
        present, known = lesson.present[:, place], lesson.known[:, place]
        taught = None
        if lesson.taught is not None and not self.settings.teaches:
            share = lesson.taught_share
            taught = (1 - share) * present + share * lesson.taught[:, place]
        return identification_loss(logits, present, known, lesson.soft_f1_weight, taught)

    @torch.no_grad()
    def _follow(self, batch: int, ema_spectra: int) -> None:
        # The averaging time grows with the run, so that early checks are not held back.
        share = batch / min(ema_spectra, 1000 + self.seen / 10)
        for mean, new in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(new, share)
        # What a batch normalisation has seen belongs to the averaged weights too.
        for held, now in zip(self.average.buffers(), self.network.buffers(), strict=True):
            if held.is_floating_point():
                held.lerp_(now, share)

    def state(self) -> dict[str, Any]:
        """For a checkpoint; ``seen`` counts all spectra of these weights, earlier runs included."""
        return {
            "format": CHECKPOINT_FORMAT,
            "settings": dataclasses.asdict(self.settings),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state(),
            "before": self.before,
            "seen": self.before + self.seen,
            "lineage": self.lineage,
            "history": self.history,
        }

    def restore(self, state: dict[str, Any], path: Path) -> None:
        """Continue from ``state`` of a checkpoint; ValueError if it is of another architecture."""
        architecture = state["settings"]["architecture"]
        if architecture != self.settings.architecture:
            raise ValueError(
                f"{path}: expected a checkpoint of {self.settings.architecture}, got {architecture}"
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.restore(state["schedule"])
        self.before = int(state["before"])
        self.seen = int(state["seen"]) - self.before
        self.lineage = list(state["lineage"])
        self.history = list(state["history"])

    def _start(self, path: Path) -> None:
        kind = self.settings.architecture.partition("_")[0]
        if path.is_dir():
            alike = [
                member for member in recover_members(path) if member.architecture.startswith(kind)
            ]
            if not alike:
                raise ValueError(f"{path}: expected a member of the kind {kind}, found none")
            weights, self.before, origin = alike[0].weights, alike[0].spectra, alike[0].origin
        else:
            state = read_checkpoint(path)
            weights, self.before = state["average"], int(state["seen"])
            self.lineage += state.get("lineage", [])
            origin = f"{state['settings']['architecture']} seed {state['settings']['seed']}"
        start_from(self.network, weights)
        self.lineage.append(f"{origin}, {self.before} spectra")


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running any code it may hold; ValueError if it is not one."""
    state = torch.load(path, weights_only=True, map_location="cpu")
    if not isinstance(state, dict) or state.get("format") != CHECKPOINT_FORMAT:
        raise ValueError(f"{path}: expected a checkpoint of format {CHECKPOINT_FORMAT}")
    return state
