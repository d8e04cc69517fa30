"""``zeroloss-export low-loss``: the two packages that subtract zero-loss peaks without training."""

from __future__ import annotations

import argparse
from pathlib import Path

from zeroloss_export.low_loss_package import UNTRAINED_NAMES, write_untrained_package

HELP = "Write the low-loss packages that need no training, verified against torch."
EXAMPLES = """\
  zeroloss-export low-loss --version 1.1.0 --out daemon/zeroloss/models/builtin
  zeroloss-export low-loss --version 1.1.0 --out models --tail "power law\""""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--out", type=Path, required=True, help="folder in which the packages become folders"
    )
    parser.add_argument("--version", required=True, help="of the packages")
    parser.add_argument(
        "--tail",
        choices=sorted(UNTRAINED_NAMES),
        action="append",
        help="of the zero-loss peak, may be repeated (default: both)",
    )


def run(options: argparse.Namespace) -> None:
    """Write the packages; raises ValueError with one sentence."""
    for tail in options.tail or sorted(UNTRAINED_NAMES):
        folder = options.out / UNTRAINED_NAMES[tail]
        manifest = write_untrained_package(folder, tail, version=options.version)
        print(
            f"{folder}: {manifest.title}, largest |torch - ONNX Runtime| "
            f"{manifest.graph.max_error:.1e}"
        )
