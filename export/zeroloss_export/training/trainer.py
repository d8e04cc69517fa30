"""Training of networks on spectra that are simulated as they are needed."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zeroloss_export.evaluation.metrics import balanced_threshold, scores
from zeroloss_export.networks.axis_check import ERROR_EV, AxisCheck
from zeroloss_export.networks.grid import grid_of
from zeroloss_export.networks.labels import LABELS
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.simulate.negatives import spoiled
from zeroloss_export.simulate.simulators import AnyRecipe, name_of, simulator
from zeroloss_export.simulate.spectra import ELEMENT_COUNT, LabelledSpectra
from zeroloss_export.training.learner import (
    Learner,
    LearnerSettings,
    Lesson,
    read_checkpoint,
)
from zeroloss_export.training.schedule import Fall

__all__ = ["LearnerSettings", "Settings", "Trainer", "read_checkpoint"]

log = logging.getLogger(__name__)

VALIDATION_SEED = 1_000_003
_AT_ONCE = 128
_MOST_ERROR_EV = 20.0
"""That counts in a mean: long ranges with a wrong dispersion would be all of it."""

Check = Callable[[Sequence[nn.Module]], dict[str, float]]
"""Scores networks, joined to an ensemble, on measured spectra."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the networks of a run share besides the cross sections; stored in its checkpoints."""

    seed: int = 1
    spectra: int = 1_000_000
    minutes: float = math.inf
    batch: int = 128
    weight_decay: float = 0.02
    warmup_spectra: int = 20_000
    soft_f1_weight: float = 0.1
    ema_spectra: int = 60_000
    schedule: Fall = "cosine"
    taught_share: float = 0.5
    bfloat16: bool = False
    device: str = "cpu"
    log_seconds: float = 30.0
    check_seconds: float = 300.0
    validation: int = 2048


class Trainer:
    """Trains networks on the same batches; ``run`` may be interrupted and continued.

    Teachers are the members that say so in their settings and ``teachers``, which stay as they
    are; their mean logit makes up ``taught_share`` of the targets of the other members.
    """

    def __init__(
        self,
        settings: Settings,
        members: Sequence[LearnerSettings],
        recipe: AnyRecipe,
        table: CrossSectionTable,
        teachers: Sequence[nn.Module] = (),
    ) -> None:
        self.settings = settings
        self.recipe = recipe
        with self._device():
            self.learners = [
                Learner(member, settings.weight_decay, settings.schedule, settings.warmup_spectra)
                for member in members
            ]
            self.teachers = [teacher.to(settings.device).eval() for teacher in teachers]
            kinds = dict.fromkeys([learner.grid for learner in self.learners])
            kinds |= dict.fromkeys([grid_of(teacher) for teacher in self.teachers])
            self.grids = {kind: kind() for kind in kinds}
            self.simulator = simulator(table, recipe, settings.seed, settings.device)
            held_out = simulator(table, recipe, VALIDATION_SEED, settings.device, "validation")
            self.validation = held_out.batch(settings.validation)
            self.negatives, _ = spoiled(held_out.batch(settings.validation), 1.0, held_out.draw)
        torch.manual_seed(settings.seed)
        self.steps = 0
        self.elapsed_s = 0.0

    @property
    def seen(self) -> int:
        """Simulated spectra of this run."""
        return self.steps * self.settings.batch

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, 0 to 1: spectra or minutes, whichever is further."""
        done = self.seen / self.settings.spectra
        return min(1.0, max(done, self.elapsed_s / 60 / self.settings.minutes))

    def run(self, checkpoints: Sequence[Path], measured: Check | None = None) -> None:
        """Train until the budget is spent; save at every check and at the end.

        ``checkpoints`` has one path for every member. ``measured`` scores the averaged networks on
        measured spectra for the log; it never reaches the weights.
        """
        last_log = last_check = time.monotonic()
        losses, steps, seen_then = np.zeros(len(self.learners)), 0, self.seen
        while self.progress < 1.0:
            begin = time.monotonic()
            losses += self._step()
            steps += 1
            now = time.monotonic()
            self.elapsed_s += now - begin
            if now - last_log >= self.settings.log_seconds:
                rate = (self.seen - seen_then) / (now - last_log)
                mean = " ".join(f"{loss:.4f}" for loss in losses / steps)
                bar = _bar(self.progress)
                log.info("%s %d spectra  loss %s  %.0f spectra/s", bar, self.seen, mean, rate)
                last_log, losses, steps, seen_then = now, 0.0 * losses, 0, self.seen
            if now - last_check >= self.settings.check_seconds or self.progress >= 1.0:
                self.check(measured)
                self.save(checkpoints)
                last_check = time.monotonic()

    def check(self, measured: Check | None) -> list[dict[str, float]]:
        """Score the averaged networks on simulated (and measured) spectra, and log it.

        One row for every member, then one for all that identify elements, if there are several.
        """
        logits = [self._logits(learner, self.validation) for learner in self.learners]
        negative = [self._logits(learner, self.negatives) for learner in self.learners]
        networks = [[learner.average] for learner in self.learners]
        names = [learner.settings.architecture for learner in self.learners]
        able = [
            place
            for place, learner in enumerate(self.learners)
            if not isinstance(learner.network, AxisCheck)
        ]
        if len(able) > 1:
            names.append("together")
            networks.append([self.learners[place].average for place in able])
            least = min(logits[place].shape[1] for place in able)
            for parts in (logits, negative):
                parts.append(torch.stack([parts[place][:, :least] for place in able]).mean(0))
        rows = []
        for name, nets, real, none in zip(names, networks, logits, negative, strict=True):
            checks_axis = isinstance(nets[0], AxisCheck)
            result = self._checked(real, none) if checks_axis else self._scores(real, none)
            if measured is not None and not checks_axis:
                result |= {f"measured_{key}": value for key, value in measured(nets).items()}
            rows.append({"spectra": float(self.seen)} | result)
            text = "  ".join(f"{key} {value:.3f}" for key, value in result.items())
            log.info("check %s %s", name, text)
        for learner, row in zip(self.learners, rows, strict=False):
            learner.history.append(row)
            learner.schedule.checked(row["rmse"])
        return rows

    def predict_validation(self) -> list[NDArray[np.float32]]:
        """Probabilities [spectrum, 80] of every averaged network on the simulated spectra."""
        logits = [self._logits(learner, self.validation) for learner in self.learners]
        return [_probability(part) for part in logits]

    def save(self, checkpoints: Sequence[Path]) -> None:
        """Write a checkpoint a member; old ones are replaced when all new ones are complete."""
        run = {
            "run": dataclasses.asdict(self.settings),
            "recipe_name": name_of(self.recipe),
            "recipe": dataclasses.asdict(self.recipe),
            "generator": self.simulator.draw.generator.get_state(),
            "torch": torch.get_rng_state(),
            "steps": self.steps,
            "elapsed_s": self.elapsed_s,
        }
        parts = [path.with_suffix(".part") for path in checkpoints]
        for learner, path, part in zip(self.learners, checkpoints, parts, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(learner.state() | run, part)
        for path, part in zip(checkpoints, parts, strict=True):
            part.replace(path)

    def load(self, checkpoints: Sequence[Path]) -> None:
        """Continue from checkpoints of the same members; ValueError if they do not belong to one

        moment of one run.
        """
        states = [read_checkpoint(path) for path in checkpoints]
        steps = [int(state["steps"]) for state in states]
        if len(set(steps)) > 1:
            raise ValueError(f"expected checkpoints of one moment, got those after {steps} steps")
        for learner, state, path in zip(self.learners, states, checkpoints, strict=True):
            learner.restore(state, path)
        self.simulator.draw.generator.set_state(states[0]["generator"])
        torch.set_rng_state(states[0]["torch"])
        self.steps = steps[0]
        self.elapsed_s = float(states[0]["elapsed_s"])

    def _device(self) -> contextlib.AbstractContextManager[object]:
        """New tensors are made on the device; no detour through torch's dispatch on a CPU."""
        device = torch.device(self.settings.device)
        return contextlib.nullcontext() if device.type == "cpu" else device

    def _step(self) -> list[float]:
        """One batch; the loss of every member, 0 of those that leave it out."""
        settings = self.settings
        progress = self.progress
        with self._device(), torch.no_grad():
            spectra = self.simulator.batch(settings.batch)
            spectra, unlike = spoiled(spectra, self.recipe.negative_chance, self.simulator.draw)
            inputs = spectra.counts, spectra.offset_ev, spectra.scale_ev
            features = {kind: grid(*inputs) for kind, grid in self.grids.items()}
            lectures = [teacher(features[grid_of(teacher)]) for teacher in self.teachers]
        turn = [self.steps % learner.settings.every == 0 for learner in self.learners]
        logits = [
            learner.forward(features[learner.grid], settings.bfloat16) if due else None
            for learner, due in zip(self.learners, turn, strict=True)
        ]
        for learner, made in zip(self.learners, logits, strict=True):
            if learner.settings.teaches and made is not None:
                lectures.append(made.detach())
        lesson = _lesson(spectra, unlike, lectures, settings)
        self.steps += 1
        return [
            0.0 if made is None else learner.learn(made, lesson, progress, settings.ema_spectra)
            for learner, made in zip(self.learners, logits, strict=True)
        ]

    @torch.no_grad()
    def _logits(self, learner: Learner, spectra: LabelledSpectra) -> Tensor:
        grid = self.grids[learner.grid]
        parts = []
        for at in range(0, len(spectra.counts), _AT_ONCE):
            part = slice(at, at + _AT_ONCE)
            features = grid(spectra.counts[part], spectra.offset_ev[part], spectra.scale_ev[part])
            parts.append(learner.average(features))
        return torch.cat(parts).cpu()

    def _checked(self, real: Tensor, negative: Tensor) -> dict[str, float]:
        """Scores of a check of the axis; mean errors in eV, cut, before and after mending."""
        wrong = torch.cat([torch.sigmoid(real[:, 2]), 1 - torch.sigmoid(negative[:, 2])])
        shown = self.validation.present.cpu().any(1)
        error = _axis_error(self.validation).cpu()[shown]
        left = error - ERROR_EV * real[shown, :2]
        return {
            "rmse": float((wrong**2).mean().sqrt()),
            "axis_error": float(error.abs().clamp(max=_MOST_ERROR_EV).mean()),
            "axis_error_left": float(left.abs().clamp(max=_MOST_ERROR_EV).mean()),
        } | _unlike(real, negative)

    def _scores(self, real: Tensor, negative: Tensor) -> dict[str, float]:
        truth = self.validation.present.cpu().numpy() > 0
        known = self.validation.known.cpu().numpy() > 0
        probability = _probability(real)
        threshold = balanced_threshold(probability, truth, known)
        result = {"threshold": threshold}
        result |= scores(probability, truth, threshold, known).as_dict()
        claiming = (_probability(negative) >= threshold).any(1)
        result["negative_claiming"] = float(claiming.mean())
        return result | (_unlike(real, negative) if real.shape[1] == LABELS else {})


def _lesson(
    spectra: LabelledSpectra, unlike: Tensor, lectures: Sequence[Tensor], settings: Settings
) -> Lesson:
    present = torch.cat([spectra.present, unlike[:, None]], 1)
    known = torch.cat([spectra.known, torch.ones_like(unlike)[:, None]], 1)
    taught = None
    if lectures:
        mean = torch.stack([item[:, :ELEMENT_COUNT] for item in lectures]).mean(0)
        # What is no spectrum is known for certain, and an old teacher does not know it.
        held = torch.where(unlike[:, None] > 0, spectra.present, torch.sigmoid(mean))
        taught = torch.cat([held, unlike[:, None]], 1)
    return Lesson(
        present,
        known,
        _axis_error(spectra),
        taught,
        settings.taught_share,
        settings.soft_f1_weight,
    )


def _axis_error(spectra: LabelledSpectra) -> Tensor:
    if spectra.axis_error_ev is None:
        return spectra.counts.new_zeros(len(spectra.counts), 2)
    return spectra.axis_error_ev


def _unlike(real: Tensor, negative: Tensor) -> dict[str, float]:
    return {
        "negative_unlike": float((negative[:, -1] > 0).float().mean()),
        "real_unlike": float((real[:, -1] > 0).float().mean()),
    }


def _probability(logits: Tensor) -> NDArray[np.float32]:
    result: NDArray[np.float32] = torch.sigmoid(logits[:, :ELEMENT_COUNT]).numpy()
    return result


def _bar(progress: float, width: int = 20) -> str:
    done = round(width * progress)
    return f"[{'#' * done}{'.' * (width - done)}] {100 * progress:5.1f} %"
