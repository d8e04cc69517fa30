"""Weights of one network as the start of another: other labels, or fewer blocks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import groupby
from typing import Final

import torch
from torch import Tensor, nn

from zeroloss_export.networks.labels import LABELS

UNLIKE_LOGIT: Final = -6.0
"""Bias of the label "unlike" in a head that did not have it: rare, so that nothing else changes."""

_STEM: Final = "stem.weight"
_NEW_HEAD: Final = "axis_error."
_BLOCK: Final = re.compile(r"^(blocks|stages)\.(\d+)\.(.+)$")


def widened(weights: Mapping[str, Tensor], labels: int = LABELS) -> dict[str, Tensor]:
    """The same weights with a head of so many labels; a new last one begins at UNLIKE_LOGIT.

    A head of one label is the last of the labels there were.
    """
    new = dict(weights)
    if labels == 1:
        new |= {key: weights[key][-1:] for key in ("head.weight", "head.bias") if key in weights}
        return new
    missing = labels - len(weights.get("head.bias", ()))
    if 0 < missing < labels:
        rows = weights["head.weight"]
        new["head.weight"] = torch.cat([rows, rows.new_zeros(missing, rows.shape[1])])
        bias = weights["head.bias"]
        new["head.bias"] = torch.cat([bias, bias.new_full((missing,), UNLIKE_LOGIT)])
    return new


def start_from(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load ``weights`` into ``network``, which may have fewer blocks than they come from.

    Features that they do not know are not looked at in the beginning, and a head for the error of
    the axis that they lack stays as it is.

    Of every run of alike blocks the network takes its number evenly, first and last included: each
    adds to a stream that the others read too, so that what is left still works (G. Huang et al.,
    Deep Networks with Stochastic Depth, 2016). ValueError if anything else differs.
    """
    wanted = network.state_dict()
    head = wanted.get("head.bias")
    given = weights if head is None else widened(weights, len(head))
    given = _with_features(given, wanted)
    given = {key: value for key, value in wanted.items() if key.startswith(_NEW_HEAD)} | given
    old, new = _runs(given), _runs(wanted)
    if [kind for kind, _ in old] != [kind for kind, _ in new]:
        raise ValueError("expected weights of a network of the same kind, got other blocks")
    renamed = {key: value for key, value in given.items() if not _BLOCK.match(key)}
    for (_, source), (_, target) in zip(old, new, strict=True):
        if len(target) > len(source):
            raise ValueError(f"expected at least {len(target)} blocks in a row, got {len(source)}")
        step = (len(source) - 1) / max(len(target) - 1, 1)
        for place, prefix in enumerate(target):
            taken = source[round(place * step)]
            for key, value in given.items():
                if key.startswith(taken):
                    renamed[prefix + key.removeprefix(taken)] = value
    differing = {
        key
        for key in wanted.keys() | renamed.keys()
        if key not in wanted or key not in renamed or wanted[key].shape != renamed[key].shape
    }
    if differing:
        raise ValueError(f"expected weights of the same shapes, {min(differing)} differs")
    network.load_state_dict(renamed)


def _with_features(
    weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    old, new = weights.get(_STEM), wanted.get(_STEM)
    if old is None or new is None or new.dim() != 3 or old.shape[1] >= new.shape[1]:
        return dict(weights)
    missing = old.new_zeros(old.shape[0], new.shape[1] - old.shape[1], old.shape[2])
    return {**weights, _STEM: torch.cat([old, missing], 1)}


def _runs(weights: Mapping[str, Tensor]) -> list[tuple[frozenset[tuple[str, int]], list[str]]]:
    """Prefixes of consecutive blocks with the same shapes, e.g. ``blocks.0.``, in order."""
    blocks: dict[str, set[tuple[str, int]]] = {}
    for key, value in weights.items():
        found = _BLOCK.match(key)
        if found:
            prefix = f"{found[1]}.{found[2]}."
            blocks.setdefault(prefix, set()).add((found[3], value.numel()))
    kinds = [(frozenset(shapes), prefix) for prefix, shapes in blocks.items()]
    return [
        (kind, [prefix for _, prefix in run]) for kind, run in groupby(kinds, lambda item: item[0])
    ]
