"""Caps that are checked before anything is allocated for a message."""

from __future__ import annotations

PROTOCOL_VERSION = 1
"""Major version of the wire protocol; a message of another major version is refused."""

MAX_PARTS = 66
"""Frames of one multipart message: topic, header and at most 64 buffers."""
MAX_TOPIC_BYTES = 64
MAX_HEADER_BYTES = 1 << 20
MAX_BUFFER_BYTES = 1 << 28
"""256 MiB: the longest raw buffer of one message."""
MAX_DIMS = 4

MAX_TEXT = 4096
"""Characters of any text field."""
MAX_NAME = 64
"""Characters of a name: an energy range, an output, a package."""
MAX_METADATA = 256
"""Entries of the user's metadata of a run."""
MAX_RANGES = 8
"""Energy ranges recorded together at one pixel."""
MAX_CHANNELS = 1 << 16
MAX_PIXELS = 1 << 26
"""Pixels of one map: 8192 x 8192."""
MAX_SPECTRA = 1 << 40
"""Spectra of one run, over all passes."""
MAX_BLOCK = 1 << 16
"""Spectra of one block."""
MAX_PACKAGES = 16
MAX_OUTPUTS = 64
MAX_LABELS = 1024
MAX_PARAMETERS = 16
"""Numbers that a model is given beside the spectra."""
MAX_GAPS = 4096
"""Ranges of missing spectra listed in one reply; ask again for the rest."""
MAX_ASKED_PIXELS = 1 << 18
"""Pixels of one request for spectra; a list of so many just fits into a request."""
MAX_ASKED_NAMES = 16
"""Raw ranges and model outputs of one request for spectra."""
