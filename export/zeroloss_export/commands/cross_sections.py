"""The table of cross sections that most commands need, and its option."""

from __future__ import annotations

import argparse
from pathlib import Path

from zeroloss_export.physics.cross_section_table import CrossSectionTable
from zeroloss_export.physics.table import GosTable


def add_option(parser: argparse.ArgumentParser) -> None:
    """``--cross-sections FILE``."""
    parser.add_argument("--cross-sections", type=Path, help="cache of the cross-section table")


def cross_sections(cache: Path | None) -> CrossSectionTable:
    """Load the cached table, or build it from the shipped oscillator strengths (some seconds)."""
    if cache is not None and cache.exists():
        return CrossSectionTable.load(cache)
    table = CrossSectionTable.build(GosTable.load())
    if cache is not None:
        table.save(cache)
    return table
