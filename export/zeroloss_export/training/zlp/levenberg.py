"""Trains all replicas together by Levenberg and Marquardt's method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from zeroloss_export.networks.replicas import Replicas

STEPS: Final = (40, 50)
"""Steps of the first and of the second stage at most."""
ANCHOR: Final = 0.3
"""Precision with which each network is held to its own random start (1 / variance of a weight)."""
LOG_FLOOR: Final = 0.02
"""Smallest error of ln I in the first stage, which only has to come near."""
LEAST: Final = 0.1
"""Of its error: what a target is at least where its logarithm is taken."""
PATIENCE: Final = 6
"""Steps without a better validation cost after which a replica keeps its best weights."""
GIVE_UP: Final = 1e7
"""Damping from which a replica no longer moves."""
STUCK: Final = 5.0
"""Times the median cost of the first stage from which a replica counts as stuck."""
LARGEST_LOG: Final = 60.0
_AT_ONCE: Final = 8
"""Replicas of which one Jacobian is held: larger buffers cost more than they save."""


@dataclass(frozen=True, slots=True)
class Points:
    """What R replicas are fitted to at N points.

    ``inputs`` [N, n], ``base`` [N] (added to the outputs: the curve the networks depart from),
    ``target`` and ``sigma`` [R, N] in counts, ``training`` [R, N] 1 where a point trains the
    replica, ``validation`` [R, N] 1 where it is held out.
    """

    inputs: Tensor
    base: Tensor
    target: Tensor
    sigma: Tensor
    training: Tensor
    validation: Tensor


@dataclass(frozen=True, slots=True)
class Fitted:
    """Weights [R, parameters] and the cost per training point [R] of each replica."""

    weights: Tensor
    cost: Tensor
    steps: int


def fit(
    network: Replicas,
    start: Tensor,
    points: Points,
    *,
    steps: tuple[int, int] = STEPS,
    progress: Callable[[int], None] = lambda _: None,
) -> Fitted:
    """Fit exp(base + network) to the targets of every replica, from ``start`` [R, parameters].

    Each replica minimises its own sum of squares plus the distance to its own random start, so
    that what the data leave open stays as various as the starts are (randomised maximum a
    posteriori: Pearce, Leibfried and Brintrup, AISTATS 2020). A first stage fits ln I, a second
    one I itself. Each replica stops by itself when its validation cost no longer falls.
    ``progress`` is told of every step.
    """
    weights = start
    taken = 0
    for logarithmic, limit, damping in ((True, steps[0], 1.0), (False, steps[1], 0.1)):
        stage = _Stage(network, start, points, logarithmic=logarithmic, damping=damping)
        weights, used = stage.run(weights, limit, progress)
        if logarithmic:
            weights = stage.freed(weights)
        taken += used
    cost, _ = _Stage(network, start, points, logarithmic=False, damping=1.0).costs(weights)
    return Fitted(weights, cost / points.training.sum(1), taken)


class _Stage:
    """One residual, minimised for all replicas at once."""

    def __init__(
        self,
        network: Replicas,
        anchor: Tensor,
        points: Points,
        *,
        logarithmic: bool,
        damping: float,
    ) -> None:
        self._network = network
        self._anchor = anchor
        self._points = points
        self._damping = torch.full((len(anchor),), damping)
        self._logarithmic = logarithmic
        self._target, self._sigma = points.target, points.sigma
        if logarithmic:
            above = torch.maximum(points.target, LEAST * points.sigma)
            self._target = above.log()
            self._sigma = (points.sigma / above).clamp(LOG_FLOOR, 1.0)
        self._fitted = _Fitted.of(points, self._target, self._sigma)

    def costs(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of squares over the training and over the validation points [R]."""
        values = self._network.values(weights, self._points.inputs) + self._points.base
        squares = self._residual(values, self._target, self._sigma)[0] ** 2
        training = (squares * self._points.training).sum(1)
        return training, (squares * self._points.validation).sum(1)

    def run(
        self, weights: Tensor, limit: int, progress: Callable[[int], None]
    ) -> tuple[Tensor, int]:
        """The weights of the lowest validation cost of each replica, and the steps taken."""
        cost, best_cost = self.costs(weights)
        cost = cost + self._held(weights)
        best = weights
        waited = torch.zeros(len(weights), dtype=torch.long)
        for step in range(limit):
            active = torch.nonzero((waited < PATIENCE) & (self._damping < GIVE_UP))[:, 0]
            if len(active) == 0:
                return best, step
            proposed = weights.clone()
            proposed[active] = self._proposal(weights, active)
            training, validation = self.costs(proposed)
            new = training + self._held(proposed)
            better = torch.isfinite(new) & (new < cost)
            weights = torch.where(better[:, None], proposed, weights)
            cost = torch.where(better, new, cost)
            damping = torch.where(better, 0.2 * self._damping, 4.0 * self._damping)
            self._damping[active] = damping[active].clamp(min=1e-7)
            # The first stage only has to come near: nothing is learned by heart yet.
            improved = better & ((validation < best_cost) | self._logarithmic)
            best = torch.where(improved[:, None], weights, best)
            best_cost = torch.where(improved, validation, best_cost)
            waited = torch.where(improved, 0, waited + better)
            progress(step)
        return best, limit

    def freed(self, weights: Tensor) -> Tensor:
        """Replicas stuck far from their data go on from the weights of one that is near its own."""
        cost, _ = self.costs(weights)
        order = cost.nan_to_num(nan=torch.inf).argsort()
        stuck = torch.nonzero(~(cost < STUCK * cost[order[len(order) // 2]]))[:, 0]
        moved = weights.clone()
        moved[stuck] = weights[order[: max(1, len(order) // 2)]][
            torch.arange(len(stuck)) % max(1, len(order) // 2)
        ]
        return moved

    def _held(self, weights: Tensor) -> Tensor:
        return ANCHOR * ((weights - self._anchor) ** 2).sum(1)

    def _proposal(self, weights: Tensor, active: Tensor) -> Tensor:
        """The damped step of the replicas [active]."""
        return torch.cat([self._moved(weights, part) for part in torch.split(active, _AT_ONCE)])

    def _moved(self, weights: Tensor, rows: Tensor) -> Tensor:
        points, now = self._fitted, weights[rows]
        values, jacobian = self._network.jacobian(now, points.inputs[rows])
        model = values + points.base[rows]
        residual, slope = self._residual(model, points.target[rows], points.sigma[rows])
        mask = points.mask[rows]
        jacobian *= (slope * mask).unsqueeze(-1)
        # Not vector_norm: along this dimension it takes fifteen times as long.
        diagonal = jacobian.square().sum(1)
        damped = diagonal + 1e-4 * diagonal.mean(1, keepdim=True)
        damped = ANCHOR + self._damping[rows, None] * damped
        held = ANCHOR * (now - self._anchor[rows])
        few = jacobian.shape[1] < jacobian.shape[2]
        step = _step_by_points if few else _step_by_weights
        return now - step(jacobian, residual * mask, held, damped)

    def _residual(self, model: Tensor, target: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Residuals of curves ln I and their slopes, all [R, N]."""
        slope = 1.0 / sigma
        if not self._logarithmic:
            model = model.clamp(max=LARGEST_LOG).exp()
            slope = model * slope
        return (model - target) / sigma, slope


@dataclass(frozen=True, slots=True)
class _Fitted:
    """The points that train each replica, as many for all; the others cost as much to no end.

    ``inputs`` [R, n, inputs], the others [R, n]; ``mask`` is 0 where a replica has fewer.
    """

    inputs: Tensor
    base: Tensor
    target: Tensor
    sigma: Tensor
    mask: Tensor

    @classmethod
    def of(cls, points: Points, target: Tensor, sigma: Tensor) -> _Fitted:
        most = int((points.training > 0).sum(1).max())
        order = points.training.argsort(dim=1, descending=True, stable=True)[:, :most]
        return cls(
            points.inputs[order],
            points.base[order],
            target.gather(1, order),
            sigma.gather(1, order),
            points.training.gather(1, order),
        )


def _step_by_weights(jacobian: Tensor, residual: Tensor, held: Tensor, damped: Tensor) -> Tensor:
    """(J^T J + D)^-1 (J^T r + h) [R, parameters], solved in float64; 0 where that fails.

    ``jacobian`` J [R, N, parameters], ``residual`` r [R, N], ``held`` h and ``damped`` the diagonal
    D [R, parameters].
    """
    gradient = _turned(jacobian, residual) + held
    normal = torch.bmm(jacobian.transpose(1, 2), jacobian).double()
    torch.diagonal(normal, dim1=1, dim2=2).add_(damped)
    return _solved(normal, gradient)


def _step_by_points(jacobian: Tensor, residual: Tensor, held: Tensor, damped: Tensor) -> Tensor:
    """``_step_by_weights`` for fewer points than weights, by the matrix inversion lemma.

    With u = h / D it is u + D^-1 J^T (1 + J D^-1 J^T)^-1 (r - J u).
    """
    alone = held / damped
    scaled = jacobian * alone.unsqueeze(1)
    rest = residual - scaled.sum(2)
    torch.mul(jacobian, damped.rsqrt().unsqueeze(1), out=scaled)
    normal = torch.bmm(scaled, scaled.transpose(1, 2)).double()
    torch.diagonal(normal, dim1=1, dim2=2).add_(1.0)
    return alone + _turned(jacobian, _solved(normal, rest)) / damped


def _turned(jacobian: Tensor, values: Tensor) -> Tensor:
    """J^T v [R, parameters]; with v [R, N] as a row the product takes a tenth of the time."""
    return torch.bmm(values.unsqueeze(1), jacobian)[:, 0]


def _solved(matrix: Tensor, right: Tensor) -> Tensor:
    """Solution [R, n] in the type of ``right``; 0 where the matrix [R, n, n] is not positive."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    found = torch.cholesky_solve(right.double().unsqueeze(-1), factor)[..., 0]
    return torch.where((failed == 0)[:, None], found, 0.0).to(right.dtype)
