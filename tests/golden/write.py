"""Write the golden bytes of the current protocol version: python -m tests.golden.write

Refuses to change a file that is there: the bytes of a released version never change.
"""

from __future__ import annotations

import sys

from tests.golden.frames import FOLDER, pack
from tests.golden.samples import SAMPLES

from zeroloss.wire import PROTOCOL_VERSION, encode


def main() -> int:
    """Write what is missing; 1 when a file holds other bytes than `encode` gives today."""
    folder = FOLDER / f"v{PROTOCOL_VERSION}"
    folder.mkdir(exist_ok=True)
    changed = []
    for name, message in SAMPLES.items():
        path = folder / f"{name}.bin"
        data = pack(encode(message))
        if not path.exists():
            path.write_bytes(data)
            print(f"wrote {path.name}, {len(data)} bytes")
        elif path.read_bytes() != data:
            changed.append(path.name)
    if changed:
        print(f"other bytes than before: {', '.join(changed)}; see README.md", file=sys.stderr)
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
