"""An exported package as a predictor: the session of the daemon, not the network in torch."""

from __future__ import annotations

import torch
from torch import Tensor

from zeroloss.models import ModelPackage, ModelSession
from zeroloss_export.evaluation.measured import Answers, Predictor


def session_predictor(package: ModelPackage) -> Predictor:
    """Run a package on the CPU with one thread.

    Raises the ``ModelError`` of `zeroloss.models` for a broken package or spectra it cannot take;
    values that are not finite come as NaN. For packages that do not say what is unlike training
    nothing is.
    """
    session = ModelSession(package)
    names = [output.name for output in package.manifest.outputs]
    wanted = [name for name in ("probability", "spread", "unlike") if name in names]

    def run(counts: Tensor, offset_ev: Tensor, scale_ev: Tensor) -> Answers:
        outputs = session.run(counts.numpy(), offset_ev.numpy(), scale_ev.numpy(), wanted)
        found = {name: torch.from_numpy(values) for name, values in outputs.items()}
        nothing = torch.zeros(len(counts), 1)
        return found["probability"], found["spread"], found.get("unlike", nothing)

    return run


def about_package(package: ModelPackage) -> list[str]:
    """What a model card says of the package: name, hashes, training, runtime."""
    manifest = package.manifest
    trained = manifest.trained
    low, high = manifest.takes.window_ev
    return [
        f"package {manifest.name} {manifest.version}, sha256 {package.sha256}",
        f"graph {manifest.graph.file}, sha256 {manifest.graph.sha256}",
        "run by ONNX Runtime on a CPU, as the daemon does",
        f"takes {manifest.takes.modality} spectra between {low:g} and {high:g} eV",
        f"trained {trained.date} on {trained.spectra} spectra: {trained.data} ({trained.software})",
    ]
