"""What the logits of a network stand for."""

from __future__ import annotations

from typing import Final

from zeroloss_export.physics.elements import ELEMENTS

LABELS: Final = len(ELEMENTS) + 1
"""The elements, then "unlike anything trained on"."""

LOGIT_AT_START: Final = -3.0
"""Bias of an untrained head: about the share of true labels."""
