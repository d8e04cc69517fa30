"""Training of one network on spectra that are simulated as they are needed."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zeroloss_export.evaluation.metrics import balanced_threshold, scores
from zeroloss_export.networks import build
from zeroloss_export.networks.grid import grid_of
from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.simulate.recipe import Recipe
from zeroloss_export.simulate.spectra import LabelledSpectra, SpectrumSimulator
from zeroloss_export.training.loss import identification_loss

log = logging.getLogger(__name__)

VALIDATION_SEED = 1_000_003
CHECKPOINT_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a run needs besides the cross sections; stored in its checkpoints."""

    architecture: str = "mixer"
    seed: int = 1
    spectra: int = 1_000_000
    minutes: float = math.inf
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup_spectra: int = 20_000
    soft_f1_weight: float = 0.1
    ema_spectra: int = 60_000
    bfloat16: bool = True
    log_seconds: float = 30.0
    check_seconds: float = 300.0
    validation: int = 2048


class Trainer:
    """Trains one network; ``run`` may be interrupted and continued from its checkpoint."""

    def __init__(self, settings: Settings, recipe: Recipe, table: CrossSectionTable) -> None:
        self.settings = settings
        self.recipe = recipe
        torch.manual_seed(settings.seed)
        self.network = build(settings.architecture)
        self.average = build(settings.architecture)
        self.average.load_state_dict(self.network.state_dict())
        self.average.eval()
        self.grid = grid_of(self.network)()
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.simulator = SpectrumSimulator(table, recipe, settings.seed)
        held_out = SpectrumSimulator(table, recipe, VALIDATION_SEED)
        self.validation = held_out.batch(settings.validation)
        self.seen = 0
        self.elapsed_s = 0.0
        self.history: list[dict[str, float]] = []

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, 0 to 1: spectra or minutes, whichever is further."""
        done = self.seen / self.settings.spectra
        return min(1.0, max(done, self.elapsed_s / 60 / self.settings.minutes))

    def run(
        self, checkpoint: Path, measured: Callable[[nn.Module], dict[str, float]] | None = None
    ) -> None:
        """Train until the budget is spent; save to ``checkpoint`` at every check and at the end.

        ``measured`` scores the averaged network on measured spectra for the log; it never reaches
        the weights.
        """
        last_log = last_check = time.monotonic()
        loss_sum, steps, seen_then = 0.0, 0, self.seen
        while self.progress < 1.0:
            begin = time.monotonic()
            loss_sum += self._step()
            steps += 1
            now = time.monotonic()
            self.elapsed_s += now - begin
            if now - last_log >= self.settings.log_seconds:
                rate = (self.seen - seen_then) / (now - last_log)
                log.info(
                    "%s %s %d spectra  loss %.4f  %.0f spectra/s",
                    self.settings.architecture,
                    _bar(self.progress),
                    self.seen,
                    loss_sum / steps,
                    rate,
                )
                last_log, loss_sum, steps, seen_then = now, 0.0, 0, self.seen
            if now - last_check >= self.settings.check_seconds or self.progress >= 1.0:
                self.check(measured)
                self.save(checkpoint)
                last_check = time.monotonic()

    def check(self, measured: Callable[[nn.Module], dict[str, float]] | None) -> dict[str, float]:
        """Score the averaged network on simulated (and measured) spectra, and log it."""
        probability = self.predict_validation()
        truth = self.validation.present.numpy() > 0
        known = self.validation.known.numpy() > 0
        threshold = balanced_threshold(probability, truth, known)
        result = {"spectra": float(self.seen), "threshold": threshold}
        result |= scores(probability, truth, threshold, known).as_dict()
        if measured is not None:
            result |= {f"measured_{key}": value for key, value in measured(self.average).items()}
        self.history.append(result)
        log.info("check %s", "  ".join(f"{key} {value:.3f}" for key, value in result.items()))
        return result

    @torch.no_grad()
    def predict_validation(self) -> np.ndarray:
        """Probabilities [spectrum, 80] of the averaged network on the simulated validation set."""
        parts = [
            torch.sigmoid(self.average(self._features(self.validation, slice(at, at + 128))))
            for at in range(0, self.settings.validation, 128)
        ]
        return torch.cat(parts).numpy()

    def save(self, path: Path) -> None:
        """Write a checkpoint; the old one is replaced only when the new one is complete."""
        state = {
            "format": CHECKPOINT_FORMAT,
            "settings": dataclasses.asdict(self.settings),
            "recipe": dataclasses.asdict(self.recipe),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.simulator.draw.generator.get_state(),
            "torch": torch.get_rng_state(),
            "seen": self.seen,
            "elapsed_s": self.elapsed_s,
            "history": self.history,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        torch.save(state, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint of the same architecture."""
        state = read_checkpoint(path)
        architecture = state["settings"]["architecture"]
        if architecture != self.settings.architecture:
            raise ValueError(
                f"{path}: expected a checkpoint of {self.settings.architecture}, got {architecture}"
            )
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.simulator.draw.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
        self.seen = int(state["seen"])
        self.elapsed_s = float(state["elapsed_s"])
        self.history = list(state["history"])

    def _features(self, spectra: LabelledSpectra, part: slice) -> Tensor:
        features: Tensor = self.grid(
            spectra.counts[part], spectra.offset_ev[part], spectra.scale_ev[part]
        )
        return features

    def _step(self) -> float:
        settings = self.settings
        spectra = self.simulator.batch(settings.batch)
        with torch.no_grad():
            features = self._features(spectra, slice(None))
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * self._schedule()
        self.network.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
            logits = self.network(features)
        loss = identification_loss(
            logits.float(), spectra.present, spectra.known, settings.soft_f1_weight
        )
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.seen += settings.batch
        # The averaging time grows with the run, so that early checks are not held back.
        keep = 1 - settings.batch / min(settings.ema_spectra, 1000 + self.seen / 10)
        with torch.no_grad():
            for mean, new in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(new, 1 - keep)
            # What a batch normalisation has seen belongs to the averaged weights too.
            for held, now in zip(self.average.buffers(), self.network.buffers(), strict=True):
                if held.is_floating_point():
                    held.lerp_(now, 1 - keep)
        return float(loss.detach())

    def _schedule(self) -> float:
        """Linear warm-up, then a cosine to 1 % of the learning rate."""
        warm = min(1.0, (self.seen + 1) / self.settings.warmup_spectra)
        return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.progress)))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running any code it may hold; ValueError if it is not one."""
    state = torch.load(path, weights_only=True)
    if not isinstance(state, dict) or state.get("format") != CHECKPOINT_FORMAT:
        raise ValueError(f"{path}: expected a checkpoint of format {CHECKPOINT_FORMAT}")
    return state


def _bar(progress: float, width: int = 20) -> str:
    done = round(width * progress)
    return f"[{'#' * done}{'.' * (width - done)}] {100 * progress:5.1f} %"
