"""CPU time to identify the elements of a spectrum: embedded packages against the paper's ensemble.

The paper's ensemble (A. Annys et al., Sci. Rep. 13, 13724, 2023: 2 vision transformers and 3
U-Nets at their published sizes) is exported to a temporary folder by the same exporter as the
packages, with untrained weights: what a graph costs does not depend on their values. All run in one
ONNX Runtime, with one thread unless told otherwise, in turn over several rounds, so that what else
the machine does meets them alike. Printed is the median over the rounds of the process's CPU time
per spectrum; spectra have 2048 channels. Measured is what maps cost: without the outputs of kind
spectrum, which are computed only where somebody asks. The package `elements` is expected to be at
least 25 times cheaper. Needs the extra `export`.

    python benchmarks/identify_cost.py
    python benchmarks/identify_cost.py --rounds 9 --batch 16 --package elements path/to/package
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from zeroloss.models import load_package
from zeroloss.models.manifest import INPUT_NAMES
from zeroloss.models.pruning import prune
from zeroloss.models.store import builtin_folder
from zeroloss_export.networks import build
from zeroloss_export.networks.ensemble import Ensemble
from zeroloss_export.networks.paper import PAPER_ENSEMBLE
from zeroloss_export.onnx_graph import export_graph
from zeroloss_export.package import ANSWERS

CHANNELS = 2048
EXPECTED_RATIO = 25.0
TOLERANCE = 1e-4
REFERENCE = "paper, 2 ViT + 3 U-Net"
Feed = dict[str, NDArray[np.float32]]


@dataclass
class Contender:
    """A graph and its CPU time per spectrum in ms, round by round."""

    name: str
    session: onnxruntime.InferenceSession
    size_mb: float
    repeats: int = 1
    cpu_ms: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)

    def run_round(self, feed: Feed) -> None:
        """Time ``repeats`` batches."""
        spectra = self.repeats * len(feed["counts"])
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(self.repeats):
            self.session.run(None, feed)
        self.cpu_ms.append(1e3 * (time.process_time() - cpu) / spectra)
        self.wall_ms.append(1e3 * (time.perf_counter() - wall) / spectra)


def load(name: str, graph: bytes, threads: int) -> Contender:
    """Open a graph on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Threads that spin while they wait would be counted as work.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return Contender(name, session, len(graph) / 1e6)


def spectra(batch: int) -> Feed:
    """Noisy power laws with a step, 100 to 1124 eV."""
    rng = np.random.default_rng(1)
    energy = 100 + 0.5 * np.arange(CHANNELS)
    mean = 1e4 * (energy / 100) ** -3 * np.where(energy > 532, 1.5, 1.0)
    counts = rng.poisson(mean, (batch, CHANNELS)).astype(np.float32)
    values = counts, np.full(batch, 100, np.float32), np.full(batch, 0.5, np.float32)
    return dict(zip(INPUT_NAMES, values, strict=True))


def export_paper(path: Path) -> tuple[float, Ensemble]:
    """Write the paper's ensemble; returns its millions of parameters and the torch module."""
    torch.manual_seed(0)
    ensemble = Ensemble([build(name) for name in PAPER_ENSEMBLE]).eval()
    export_graph(ensemble, path, ANSWERS)
    return sum(value.numel() for value in ensemble.parameters()) / 1e6, ensemble


@torch.no_grad()
def difference(ensemble: Ensemble, contender: Contender) -> float:
    """Largest |torch - ONNX Runtime| of two spectra."""
    feed = spectra(2)
    expected = ensemble(*(torch.from_numpy(feed[name]) for name in INPUT_NAMES))
    got = contender.session.run(None, feed)
    return max(
        float(np.abs(one.numpy() - other).max()) for one, other in zip(expected, got, strict=True)
    )


def package_graph(package: str) -> bytes:
    """Graph for maps of an embedded package by name, or of a package folder."""
    folder = builtin_folder() / package
    found = load_package(folder if folder.is_dir() else Path(package))
    outputs = {item.name for item in found.manifest.outputs if item.kind != "spectrum"}
    return prune(found.read_graph(), outputs)


def main(argv: Sequence[str] | None = None) -> None:
    """Print a row per graph and its ratio to the paper's ensemble."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds (default 5)")
    parser.add_argument("--batch", type=int, default=8, help="spectra in a batch (default 8)")
    parser.add_argument("--threads", type=int, default=1, help="of ONNX Runtime (default 1)")
    parser.add_argument(
        "--package",
        nargs="+",
        default=["elements", "elements_fast"],
        help="embedded packages or package folders",
    )
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    contenders = [load(name, package_graph(name), args.threads) for name in args.package]
    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / "paper.onnx"
        print("exporting the paper's ensemble (untrained weights) ...", flush=True)
        millions, ensemble = export_paper(graph)
        paper = load(REFERENCE, graph.read_bytes(), args.threads)
    error = difference(ensemble, paper)
    if error > TOLERANCE:
        raise SystemExit(f"the exported graph departs from torch by {error:.1e}")
    del ensemble
    print(f"{millions:.2f} million parameters, largest |torch - ONNX Runtime| {error:.1e}")
    feed = spectra(args.batch)
    for contender in (paper, *contenders):
        contender.session.run(None, feed)
        contender.run_round(feed)
        # The cheap ones run as long as the dear one, or their times would be all noise.
        contender.repeats = max(1, round(paper.cpu_ms[0] / contender.cpu_ms[0]))
    for contender in (paper, *contenders):
        contender.cpu_ms.clear()
        contender.wall_ms.clear()
    for _ in range(args.rounds):
        for contender in (paper, *contenders):
            contender.run_round(feed)
    report(paper, contenders, args.batch, args.threads)


def report(paper: Contender, contenders: list[Contender], batch: int, threads: int) -> None:
    """Print the table."""
    rounds = len(paper.cpu_ms)
    print(
        f"onnxruntime {onnxruntime.__version__}, {platform.machine()}, {os.cpu_count()} cores, "
        f"{threads} thread(s), batch {batch}, {rounds} rounds"
    )
    print(f"{'graph':<28}{'MB':>8}{'CPU ms/spectrum (least..most)':>34}{'wall ms':>10}{'ratio':>8}")
    for contender in (paper, *contenders):
        cpu = contender.cpu_ms
        times = f"{np.median(cpu):.3f} ({min(cpu):.3f}..{max(cpu):.3f})"
        ratio = float(np.median(np.divide(paper.cpu_ms, cpu)))
        print(
            f"{contender.name[-28:]:<28}{contender.size_mb:>8.1f}{times:>34}"
            f"{np.median(contender.wall_ms):>10.3f}{ratio:>8.1f}"
        )
        if contender.name == "elements":
            verdict = "yes" if ratio >= EXPECTED_RATIO else "NO"
            print(f"  at least {EXPECTED_RATIO:.0f} times cheaper than the paper's: {verdict}")


if __name__ == "__main__":
    main()
