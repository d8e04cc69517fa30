"""``zeroloss-export quantify-package``: the package that counts atoms, from cross sections."""

from __future__ import annotations

import argparse
from pathlib import Path

from zeroloss_export.quantify_package import write_quantify_package

HELP = "Write the quantification package, verified against torch."
EXAMPLES = """\
  zeroloss-export quantify-package --version 1.2.0 --out daemon/zeroloss/models/builtin/quantify
  zeroloss-export quantify-package --version 1.2.0 --name quantify2 --out models/quantify2"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--out", type=Path, required=True, help="folder of the package")
    parser.add_argument("--version", required=True, help="of the package")
    parser.add_argument("--name", default="quantify", help="of the package (default quantify)")


def run(options: argparse.Namespace) -> None:
    """Write the package; raises ValueError with one sentence."""
    manifest = write_quantify_package(options.out, version=options.version, name=options.name)
    size_mb = (options.out / manifest.graph.file).stat().st_size / 1e6
    print(
        f"{options.out}: {manifest.title}, {size_mb:.1f} MB, largest |torch - ONNX Runtime| "
        f"{manifest.graph.max_error:.1e} of a value"
    )
