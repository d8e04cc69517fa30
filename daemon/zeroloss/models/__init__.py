"""Model packages: manifest, store, and the session that runs them."""

from __future__ import annotations

from .errors import (
    InferenceError,
    InstallError,
    ModelError,
    PackageError,
    ParameterError,
    ProviderError,
)
from .inputs import LowLoss
from .manifest import Manifest
from .package import ModelPackage, load_package, save_package
from .provider import Provider
from .session import ModelSession
from .store import ModelStore

__all__ = [
    "InferenceError",
    "InstallError",
    "LowLoss",
    "Manifest",
    "ModelError",
    "ModelPackage",
    "ModelSession",
    "ModelStore",
    "PackageError",
    "ParameterError",
    "Provider",
    "ProviderError",
    "load_package",
    "save_package",
]
