"""Live maps as HyperSpy signals. HyperSpy is optional: `pip install "zeroloss[hyperspy]"`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ._live_run import LiveRun


def signal_of(run: LiveRun, labels: tuple[str, ...] | None = None) -> Any:
    """A `Signal2D` [label, y, x] of probability maps; the ledger and provenance in its metadata."""
    try:
        import hyperspy.api as hs
    except ImportError as error:
        raise ImportError(
            'to_hyperspy() needs HyperSpy: pip install "zeroloss[hyperspy]"'
        ) from error
    labels = labels or run.detected or run.elements
    views = [run[label] for label in labels]
    step = run.start.scan.step or (1.0, 1.0)
    unit = run.start.scan.step_unit if run.start.scan.step else "px"
    sizes = (len(labels), *run.shape)
    axes = [
        {"name": name, "size": size, "scale": scale, "units": units, "navigate": name == "label"}
        for name, size, scale, units in zip(
            ("label", "y", "x"), sizes, (1.0, *step), ("", unit, unit), strict=True
        )
    ]
    signal = hs.signals.Signal2D(np.stack([view.values for view in views]), axes=axes)
    signal.metadata.General.title = run.start.title or f"run {run.run[:4].hex()}"
    signal.metadata.Signal.quantity = "Probability"
    signal.metadata.add_dictionary(
        {
            "zeroloss": {
                "labels": list(labels),
                "coverage": run.coverage,
                "ledger": run.ledger.to_header(),
                "provenance": run.provenance,
            }
        }
    )
    return signal
