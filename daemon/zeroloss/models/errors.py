"""What can go wrong with a model package or its execution; every message is one sentence."""

from __future__ import annotations


class ModelError(ValueError):
    """Anything wrong with a model, its package, or the runtime that executes it."""


class PackageError(ModelError):
    """The package is damaged, foreign, or does not keep the contract."""


class ParameterError(ModelError):
    """A parameter that the package does not have, or a value that it cannot take."""


class ProviderError(ModelError):
    """The execution provider that was asked for is not there."""


class InstallError(ModelError):
    """ONNX Runtime is missing, doubled or broken in this Python environment."""


class InferenceError(ModelError):
    """The graph could not be executed on these spectra."""
