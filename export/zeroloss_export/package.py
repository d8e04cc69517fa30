"""Checkpoints of several networks to one ONNX graph and its manifest: a model package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from zeroloss.models import save_package
from zeroloss.models.manifest import Buckets, Manifest, Output, Takes
from zeroloss_export.evaluation.measured import Answers, Predictor
from zeroloss_export.networks import build
from zeroloss_export.networks.ensemble import (
    UNLIKE_LABEL,
    UNLIKE_THRESHOLD,
    ElementGraph,
    Ensemble,
    Joining,
    Margin,
)
from zeroloss_export.networks.evidence import edge_labels
from zeroloss_export.networks.warm_start import start_from
from zeroloss_export.onnx_graph import check_batches, halve_weights, onnx_runner
from zeroloss_export.package_parts import trained_today, verified_graph
from zeroloss_export.physics.elements import ELEMENTS
from zeroloss_export.simulate.spectra import LabelledSpectra
from zeroloss_export.training.trainer import read_checkpoint

ANSWERS: Final = ("probability", "spread", "unlike")
AXIS_ERROR: Final = "axis_error_ev"
"""Of ensembles that check the axis, between ANSWERS and EVIDENCE."""
AXIS_ENDS: Final = ("first channel", "last channel")
EVIDENCE: Final = ("edge_onset_ev", "edge_snr", "edge_expected_ev")
_LARGEST_ONSET_GAP_EV: Final = 0.01
_SAME_ONSETS: Final = 0.999
"""Share of onsets that torch and ONNX Runtime must agree on: between two maxima of the same height
the last digit decides."""


@dataclass(frozen=True, slots=True)
class Member:
    """One trained network: its averaged weights and where they came from.

    ``runs`` are the trainings behind it in order: what the first began with, and the spectra of
    each.
    """

    network: nn.Module
    architecture: str
    seed: int
    spectra: int
    runs: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return f"{self.architecture} seed {self.seed}, {self.spectra} spectra"


def load_member(path: Path) -> Member:
    """Read a checkpoint, its weights rounded to float16 as packages store them.

    A head without the label "unlike" is given one that is never claimed. ValueError if the file is
    no checkpoint.
    """
    state = read_checkpoint(path)
    settings = state["settings"]
    network = build(settings["architecture"])
    start_from(network, state["average"])
    network = network.half().float().eval()
    return Member(network, settings["architecture"], settings["seed"], state["seen"], _runs(state))


def _runs(state: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    """Name and spectra of every training behind a checkpoint; its lineage counts from the start."""
    seen, runs = 0, []
    for place, note in enumerate(state.get("lineage", [])):
        name, _, total = note.removesuffix(" spectra").rpartition(", ")
        runs.append((name if place == 0 else f"run {place}", int(total) - seen))
        seen = int(total)
    first = f"seed {state.get('run', state['settings'])['seed']}"
    return (*runs, (f"run {len(runs)}" if runs else first, int(state["seen"]) - seen))


def different_spectra(members: Sequence[Member]) -> int:
    """Simulated spectra that the members have seen together, those that they share counted once.

    Members with a common ancestor share what it has seen. Members of one run see the same spectra,
    or every n-th of them; checkpoints do not tell runs apart, so that of all those that are equally
    far from their first the longest counts.
    """
    longest: dict[str, int] = {}
    for member in members:
        for name, spectra in member.runs or ((str(member), member.spectra),):
            longest[name] = max(spectra, longest.get(name, 0))
    return sum(longest.values())


def onnx_predictor(path: Path) -> Predictor:
    """Run the ONNX file of an element package on the CPU with one thread."""
    runner = onnx_runner(path, ANSWERS)

    def run(counts: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> Answers:
        probability, spread, unlike = runner(counts, offset_ev, scale_ev)
        return probability, spread, unlike

    return run


@torch.no_grad()
def largest_difference(
    graph: ElementGraph, path: Path, spectra: LabelledSpectra, buckets: Buckets
) -> float:
    """Largest |torch - ONNX Runtime| of an exported graph, every bucket and many channel counts.

    Absolute for probabilities, relative to values above 1 for the evidence. ValueError where a
    value is not finite, or more than one onset in a thousand is another.
    """
    names = _names(graph.ensemble)
    run = onnx_runner(path, names)
    worst = 0.0
    for batch in check_batches((spectra.counts, spectra.offset_ev, spectra.scale_ev), buckets):
        expected, got = graph(*batch), run(*batch)
        size = " x ".join(str(item) for item in batch[0].shape)
        if not all(bool(torch.isfinite(item).all()) for item in got):
            raise ValueError(f"the exported graph gives NaN for {size} counts")
        onset, snr = (names.index(name) for name in EVIDENCE[:2])
        same = (expected[onset] - got[onset]).abs() <= _LARGEST_ONSET_GAP_EV
        if float(same.float().mean()) < _SAME_ONSETS:
            raise ValueError(f"the exported graph finds other onsets in {size} counts")
        for index, (one, other) in enumerate(zip(expected, got, strict=True)):
            gap = (one - other).abs() / one.abs().clamp(min=1.0)
            if index in (onset, snr):
                gap = gap * same
            worst = max(worst, float(gap.max()))
    return worst


def write_package(
    folder: Path,
    members: Sequence[Member],
    spectra: LabelledSpectra,
    *,
    name: str = "elements",
    version: str,
    threshold: float,
    joining: Joining | None = None,
    check: Member | None = None,
    margin: Margin | None = None,
    metrics: dict[str, float],
    data: str,
    buckets: Buckets | None = None,
    when_named: bool = False,
) -> Manifest:
    """Export, verify against torch at every bucket, and write the package whole.

    ``spectra`` are the simulated ones of the comparison; ``check`` and ``margin`` as in `Ensemble`.
    Raises ValueError if the graph departs
    from torch by more than the manifest allows, or for a threshold below that of unlike, which a
    spectrum unlike any other could pass; the folder is then left as it was.
    """
    if not UNLIKE_THRESHOLD <= threshold < 1:
        raise ValueError(f"expected a threshold from {UNLIKE_THRESHOLD} to 1, got {threshold:g}")
    ensemble = Ensemble(
        [member.network for member in members], joining, check.network if check else None, margin
    )
    graph = ElementGraph(ensemble).eval()
    buckets = buckets or Buckets()
    content, described = verified_graph(
        graph,
        _names(ensemble),
        lambda path: largest_difference(graph, path, spectra, buckets),
        finish=halve_weights,
    )
    manifest = Manifest(
        name=name,
        version=version,
        title="Elements in core-loss spectra",
        description=(
            "Which of the elements Be to Bi have a core-loss edge in the spectrum: calibrated "
            "probability (of the mean logit less what the members disagree by) of an ensemble of "
            "networks trained on simulated spectra only, and its spread; whether the spectrum is "
            "unlike anything trained on; "
            + ("by how much the energy axis is too high, which is taken off; " if check else "")
            + "and for every edge where the counts rise and how far above the noise. Weights are "
            "stored as float16, arithmetic is float32."
        ),
        graph=described,
        when_named=when_named,
        takes=Takes(modality="eels", window_ev=ensemble.window_ev),
        buckets=buckets,
        outputs=_outputs(threshold, checked=check is not None),
        trained=trained_today(
            data=data + (f"; axis checked by {check}" if check else ""),
            spectra=different_spectra([*members, *([check] if check else [])]),
            members=tuple(str(member) for member in members),
            metrics={key: round(value, 4) for key, value in metrics.items()},
        ),
    )
    save_package(folder, manifest, content)
    return manifest


def _names(ensemble: Ensemble) -> tuple[str, ...]:
    return (*ANSWERS, *((AXIS_ERROR,) if ensemble.check is not None else ()), *EVIDENCE)


def _outputs(threshold: float, checked: bool) -> tuple[Output, ...]:
    elements = {"shape": (len(ELEMENTS),), "labels": ELEMENTS}
    edges = {"kind": "spectrum", "shape": (len(edge_labels()),), "labels": edge_labels()}
    onset, snr, expected = EVIDENCE
    return (
        Output(
            name="probability",
            kind="probability",
            uncertainty="spread",
            threshold=threshold,
            **elements,
        ),
        Output(name="spread", kind="scalar", **elements),
        Output(
            name="unlike",
            kind="probability",
            shape=(1,),
            labels=(UNLIKE_LABEL,),
            threshold=UNLIKE_THRESHOLD,
        ),
        *(
            (Output(name=AXIS_ERROR, kind="scalar", shape=(2,), labels=AXIS_ENDS, unit="eV"),)
            if checked
            else ()
        ),
        Output(name=onset, unit="eV", **edges),
        Output(name=snr, **edges),
        Output(name=expected, unit="eV", **edges),
    )
