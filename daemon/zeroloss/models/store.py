"""Finds model packages: those shipped with zeroloss and those in the user's folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from .errors import PackageError
from .package import MANIFEST_FILE, ModelPackage, load_package

Stamp = tuple[tuple[str, int, int, int, int], ...]
"""Name, time of writing, time of change, size and inode of the files of a package."""


def builtin_folder() -> Path:
    """The folder of the packages that are shipped with zeroloss."""
    return Path(str(resources.files(__package__) / "builtin"))


def look(folders: Sequence[Path]) -> dict[Path, Stamp]:
    """Every package folder in the shipped folder and `folders`, with the stamp of its files.

    Nothing is opened. A folder that is not there or cannot be listed holds no packages.
    """
    return {
        candidate: _stamp(candidate)
        for folder in (builtin_folder(), *folders)
        for candidate in _candidates(folder)
    }


@dataclass(frozen=True, slots=True)
class _Read:
    """What a package folder held: a package, or the sentence why it cannot be used."""

    stamp: Stamp
    found: ModelPackage | str


class ModelStore:
    """All packages that can be loaded, by name.

    Each folder holds one package per subfolder, or is a package itself; subfolders whose name
    begins with a dot are not looked at. A package in a later folder takes the place of one of the
    same name in an earlier folder or among those shipped. A damaged package hides nothing: it
    stands in `broken` with its sentence. `PackageError` when a folder does not exist.

    With the store of an earlier moment as `before`, only what changed since is read, its folders
    are `fresh`, and a folder that is gone holds no packages.
    """

    def __init__(self, folders: Sequence[Path] = (), *, before: ModelStore | None = None) -> None:
        self._folders = (builtin_folder(), *folders)
        self._read: dict[Path, _Read] = {}
        self.fresh: set[Path] = set()
        if before is None:
            for folder in folders:
                if not folder.is_dir():
                    raise PackageError(f"the folder of model packages {folder} does not exist")
                try:
                    next(folder.iterdir(), None)
                except OSError as error:
                    raise PackageError(
                        f"the folder of model packages {folder} cannot be read: {error.strerror}"
                    ) from None
        known = {} if before is None else before._read
        for candidate, stamp in look(folders).items():
            if candidate in known and known[candidate].stamp == stamp:
                self._read[candidate] = known[candidate]
                continue
            self.fresh.add(candidate)
            try:
                self._read[candidate] = _Read(stamp, load_package(candidate))
            except PackageError as error:
                self._read[candidate] = _Read(stamp, str(error))
        self.broken: dict[Path, str] = {}
        self._packages: dict[str, ModelPackage] = {}
        self._resolve()

    @property
    def stamps(self) -> dict[Path, Stamp]:
        """The stamps of the files as they were read, to be compared with `look`."""
        return {candidate: read.stamp for candidate, read in self._read.items()}

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

    def find(self, name: str) -> ModelPackage:
        """The package of that name, else the one in the folder `name`; `PackageError` as `get`."""
        is_folder = name not in self._packages and Path(name).is_dir()
        return load_package(Path(name)) if is_folder else self.get(name)

    def refuse(self, folder: Path, sentence: str) -> None:
        """Count the package in `folder` as broken, until its files change."""
        self._read[folder] = _Read(self._read[folder].stamp, sentence)
        self._resolve()

    def _resolve(self) -> None:
        """Decide which package has which name."""
        self.broken, self._packages = {}, {}
        for folder in self._folders:
            found: dict[str, ModelPackage] = {}
            for candidate, read in self._read.items():
                if folder not in (candidate, candidate.parent):
                    continue
                package = read.found
                if isinstance(package, str):
                    self.broken[candidate] = package
                    continue
                twin = found.setdefault(package.name, package)
                if twin is not package:
                    self.broken[candidate] = (
                        f"model package {candidate}: {twin.folder} has the same name "
                        f"{package.name!r}"
                    )
            self._packages |= found


def _candidates(folder: Path) -> list[Path]:
    try:
        if (folder / MANIFEST_FILE).exists():
            return [folder]
        inside = sorted(folder.iterdir())
    except OSError:
        return []
    return [item for item in inside if not item.name.startswith(".") and _may_be_package(item)]


def _may_be_package(folder: Path) -> bool:
    try:
        # With neither a manifest nor a graph in it, it is somebody else's.
        return folder.is_dir() and ((folder / MANIFEST_FILE).exists() or any(folder.glob("*.onnx")))
    except OSError:
        # Nobody can tell; reading it will say why.
        return True


def _stamp(folder: Path) -> Stamp:
    stamps = []
    try:
        graphs = sorted(folder.glob("*.onnx"))
    except OSError:
        graphs = []
    for path in (folder / MANIFEST_FILE, *graphs):
        try:
            stat = path.stat()
        except OSError:
            continue
        times = stat.st_mtime_ns, stat.st_ctime_ns
        stamps.append((path.name, *times, stat.st_size, stat.st_ino))
    return tuple(stamps)
