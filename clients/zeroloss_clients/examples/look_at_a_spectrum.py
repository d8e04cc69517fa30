"""The spectrum of the pixels that hold an element, as soon as the scan is over."""

from __future__ import annotations

from zeroloss_clients import LiveMaps
from zeroloss_clients.examples._parser import example_parser

parser = example_parser(
    __doc__,
    "python -m zeroloss_clients.examples.look_at_a_spectrum",
    "python -m zeroloss_clients.examples.look_at_a_spectrum --element Ti",
)
parser.add_argument("--element", metavar="SYMBOL", help="which (default: the first that was found)")
args = parser.parse_args()

with LiveMaps(args.maps, args.requests) as maps:
    run = maps.wait_for_close()
    element = args.element or next(iter(run.detected), None)
    if element is None:
        raise SystemExit("nothing was found in this scan: name an element with --element")
    present = run[element].present
    if not present.any():
        raise SystemExit(f"no pixel holds {element}; found were: {' '.join(run.detected)}")
    found = run.spectrum(pixels=present)
    for name, spectrum in found.items():
        print(f"{element}, {found.counted} spectra, {name}: {spectrum.values} counts")
