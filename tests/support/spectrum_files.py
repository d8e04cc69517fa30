"""Files of spectra, written for tests as other programs write them."""

from __future__ import annotations

import h5py
import pytest

from zeroloss.recording.spectrum_files import SpectrumFileError, read_spectrum_file

NAMED = "(14)_m4d054eV_45d471eV.txt"


def axis(name, units, offset, scale, **more):
    return {"name": name, "units": units, "offset": offset, "scale": scale, **more}


ENERGY = axis("Energy loss", "eV", 400.0, 0.5)
X = axis("x", "nm", 0.0, 2.0)
Y = axis("y", "µm", 0.0, 0.001)


def write_hspy(path, signals):
    """A file as HyperSpy writes it; signals: title -> (data, axes, metadata)."""
    with h5py.File(path, "w") as file:
        file.attrs["file_format"] = "HyperSpy"
        file.attrs["file_format_version"] = "3.3"
        for title, (data, axes, metadata) in signals.items():
            group = file.create_group(f"Experiments/{title}")
            group["data"] = data
            for index, described in enumerate(axes):
                node = group.create_group(f"axis-{index}")
                node.attrs["_type"] = "UniformDataAxis"
                node.attrs["size"] = data.shape[index]
                for key, value in described.items():
                    node.attrs[key] = value
            node = group.create_group("metadata")
            node.create_group("General").attrs["title"] = title
            for dotted, value in metadata.items():
                *parents, key = dotted.split(".")
                node.require_group("/".join(parents)).attrs[key] = value
            group.create_group("original_metadata")
    return path


def one(path, data, axes, **metadata):
    entries = {"Signal.signal_type": "EELS"} | {
        key.replace("__", "."): value for key, value in metadata.items()
    }
    return write_hspy(path, {"scan": (data, axes, entries)})


MSA = """#FORMAT      : EMSA/MAS Spectral Data File
#VERSION     : 1.0
#TITLE       : made here
#NPOINTS     : {n}
#NCOLUMNS    : 1
#XUNITS      : {unit}
#YUNITS      : counts
#DATATYPE    : Y
#XPERCHAN    : {scale}
#OFFSET      : {offset}
#SIGNALTYPE  : {kind}
#SPECTRUM    : Spectral Data Starts Here
"""


def write_msa(path, counts, unit="eV", offset=100.0, scale=0.5, kind="ELS"):
    head = MSA.format(n=len(counts), unit=unit, offset=offset, scale=scale, kind=kind)
    body = "\n".join(f"{value:.3f}," for value in counts)
    path.write_text(head + body + "\n#ENDOFDATA   : \n")
    return path


def refused(*paths, **options):
    with pytest.raises(SpectrumFileError) as caught:
        read_spectrum_file(*paths, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence
