"""EELSfitter's side of benchmarks/zero_loss.py: run by the Python that has EELSfitter installed.

    PYTHON benchmarks/eelsfitter_worker.py spectra.npz --threads 2

`spectra.npz` holds `counts` [rows, columns, channels] and `scale_ev`. Prints JSON: seconds per
spectrum of its matched subtraction with 16, 50 and 84 % of the replicas, and seconds per replica
and epoch of its training. Nothing of zeroloss is imported here.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.metadata
import io
import json
import tempfile
import time

import numpy as np
import torch
from EELSFitter.core.spectral_image import SpectralImage
from EELSFitter.core.training import TrainZeroLossPeak


def trained(
    counts: np.ndarray, scale_ev: float, folder: str, epochs: int
) -> tuple[SpectralImage, float]:
    """An image with two models trained for so many epochs, and the seconds that took a model."""
    image = SpectralImage(counts.copy(), deltaE=scale_ev)
    image.output_path = folder
    seconds = []
    train = TrainZeroLossPeak.train_and_evaluate_model

    def timed(*values: object, **named: object) -> None:
        begin = time.perf_counter()
        train(*values, **named)
        seconds.append(time.perf_counter() - begin)

    TrainZeroLossPeak.train_and_evaluate_model = timed
    try:
        image.train_zlp_models(
            n_clusters=3,
            seed=1,
            n_replica=2,
            n_epochs=epochs,
            path_to_models=folder,
            display_step=None,
            training_report_step=0,
        )
    finally:
        TrainZeroLossPeak.train_and_evaluate_model = train
    return image, min(seconds)


def main() -> None:
    """Print the measurements as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("spectra")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--replicas", type=int, default=100, help="of the subtraction")
    parser.add_argument("--epochs", type=int, default=100, help="that are timed")
    parser.add_argument("--pixels", type=int, default=16, help="that are subtracted")
    args = parser.parse_args()
    with np.load(args.spectra) as file:
        counts, scale_ev = file["counts"].astype(np.float64), float(file["scale_ev"])
    # Small networks may run faster on one thread: the better of both is reported.
    timed = [measure(counts, scale_ev, threads, args) for threads in {1, args.threads}]
    best = {name: min(item[name] for item in timed) for name in timed[0]}
    versions = {
        "version": importlib.metadata.version("EELSFitter"),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    print(json.dumps(versions | best))


def measure(
    counts: np.ndarray, scale_ev: float, threads: int, args: argparse.Namespace
) -> dict[str, float]:
    """Seconds per subtracted spectrum, and per replica and epoch of its training."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        image, seconds = trained(counts, scale_ev, folder, args.epochs)
        image.load_zlp_models(folder)
    # What a replica costs does not depend on its weights.
    image.zlp_models = [copy.deepcopy(image.zlp_models[0]) for _ in range(args.replicas)]
    columns = counts.shape[1]
    pixels = [divmod(index, columns) for index in range(args.pixels)]
    begin = time.perf_counter()
    for row, column in pixels:
        signal = image.get_pixel_signal(row, column)
        models = image.get_pixel_matched_zlp_models(row, column, signal=signal)
        for curve in np.nanpercentile(models, [16, 50, 84], axis=0):
            image.subtract_zlp(signal, curve)
    subtraction = (time.perf_counter() - begin) / len(pixels)
    return {"subtraction_s": subtraction, "epoch_s": seconds / args.epochs}


if __name__ == "__main__":
    main()
