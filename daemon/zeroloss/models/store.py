"""Finds model packages: those shipped with zeroloss and those in the user's folders."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from .errors import PackageError
from .package import MANIFEST_FILE, ModelPackage, load_package


def builtin_folder() -> Path:
    """The folder of the packages that are shipped with zeroloss."""
    return Path(str(resources.files(__package__) / "builtin"))


class ModelStore:
    """All packages that can be loaded, by name.

    Each folder holds one package per subfolder, or is a package itself. A package in a later folder
    takes the place of one of the same name in an earlier folder or among those shipped. A damaged
    package hides nothing: it stands in `broken` with its sentence. `PackageError` when a folder
    does not exist.
    """

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self.broken: dict[Path, str] = {}
        self._packages: dict[str, ModelPackage] = {}
        for folder in folders:
            if not folder.is_dir():
                raise PackageError(f"the folder of model packages {folder} does not exist")
        for folder in (builtin_folder(), *folders):
            self._add(folder)

    def packages(self) -> dict[str, ModelPackage]:
        """The packages that are whole, by name."""
        return dict(sorted(self._packages.items()))

    def get(self, name: str) -> ModelPackage:
        """The package of that name; `PackageError` says which there are and which are broken."""
        package = self._packages.get(name)
        if package is not None:
            return package
        damaged = [text for folder, text in self.broken.items() if folder.name == name]
        if damaged:
            raise PackageError(damaged[-1])
        known = ", ".join(sorted(self._packages)) or "none"
        raise PackageError(f"there is no model package {name!r}; there are: {known}")

    def _add(self, folder: Path) -> None:
        found: dict[str, ModelPackage] = {}
        for candidate in _candidates(folder):
            try:
                package = load_package(candidate)
            except PackageError as error:
                self.broken[candidate] = str(error)
                continue
            twin = found.get(package.name)
            if twin is not None:
                self.broken[candidate] = (
                    f"model package {candidate}: {twin.folder} has the same name {package.name!r}"
                )
                continue
            found[package.name] = package
        self._packages |= found


def _candidates(folder: Path) -> list[Path]:
    if (folder / MANIFEST_FILE).exists():
        return [folder]
    if not folder.is_dir():
        return []
    # A subfolder with neither a manifest nor a graph is somebody else's.
    return [
        item
        for item in sorted(folder.iterdir())
        if item.is_dir() and ((item / MANIFEST_FILE).exists() or any(item.glob("*.onnx")))
    ]
