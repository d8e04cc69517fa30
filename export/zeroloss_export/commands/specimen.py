"""``zeroloss-export specimen``: a simulated spectrum image with maps of what is true about it."""

from __future__ import annotations

import argparse
from pathlib import Path

from zeroloss_export.simulate.specimens import (
    SPECIMENS,
    Conditions,
    simulate,
    write_specimen,
)

HELP = "Simulate a spectrum image of a specimen, core and low loss, with maps of the truth."
EXAMPLES = """\
  zeroloss-export specimen superlattice --out superlattice.hspy
  zeroloss-export specimen core_shell --out particles.hspy --shape 64 96 --drift --contamination
  zeroloss replay superlattice.hspy superlattice-low-loss.hspy
  zeroloss quantify superlattice.hspy --low-loss superlattice-low-loss.hspy \\
      --elements O,Ti,Mn,La --exposure-ratio 100

specimens:
"""
EXAMPLES += "\n".join(f"  {name:<15} {design.title}" for name, design in SPECIMENS.items())


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    given = Conditions()
    parser.add_argument("name", choices=SPECIMENS, metavar="NAME", help="which specimen")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE.hspy",
        help="core loss and truth; the low loss goes beside it, to FILE-low-loss.hspy",
    )
    parser.add_argument(
        "--shape",
        type=int,
        nargs=2,
        default=(32, 48),
        metavar=("ROWS", "COLUMNS"),
        help="pixels, all over the same field (default: 32 48)",
    )
    parser.add_argument("--seed", type=int, default=1, help="of everything drawn (default: 1)")
    parser.add_argument(
        "--dose",
        type=float,
        default=given.dose,
        metavar="ELECTRONS",
        help=f"that reach the spectrometer in a pixel (default: {given.dose:g})",
    )
    parser.add_argument(
        "--exposure-ratio",
        type=float,
        default=given.exposure_ratio,
        help=f"core-loss over low-loss exposure (default: {given.exposure_ratio:g})",
    )
    parser.add_argument(
        "--gain", type=float, default=given.gain, help="counts per electron (default: 1)"
    )
    parser.add_argument("--drift", action="store_true", help="specimen and energy axis move")
    parser.add_argument("--contamination", action="store_true", help="carbon grows during the scan")


def run(options: argparse.Namespace) -> None:
    """Write the files; raises ValueError with one sentence."""
    conditions = Conditions(
        dose=options.dose,
        exposure_ratio=options.exposure_ratio,
        gain=options.gain,
        drift=options.drift,
        contamination=options.contamination,
    )
    if options.out.suffix != ".hspy":
        raise ValueError(f"--out {options.out}: expected a file name that ends in .hspy")
    rows, columns = options.shape
    scan = simulate(options.name, (rows, columns), options.seed, conditions)
    core, low = write_specimen(options.out, scan)
    first, last = scan.core.energy_ev[[0, -1]]
    print(
        f"{core}, {low}: {scan.title}, {rows} x {columns} pixels, {first:g} to {last:g} eV with "
        f"edges of {' '.join(scan.visible)}, t/lambda {scan.thickness.min():.2f} to "
        f"{scan.thickness.max():.2f}"
    )
