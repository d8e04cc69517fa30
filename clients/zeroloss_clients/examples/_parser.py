"""The flags that all examples have."""

from __future__ import annotations

import argparse


def example_parser(text: str | None, *examples: str) -> argparse.ArgumentParser:
    """A parser with the endpoints of the daemon; `text` says what the script does."""
    parser = argparse.ArgumentParser(
        description=text,
        epilog="\n".join(["examples:", *(f"  {line}" for line in examples)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, endpoint, what in (
        ("--maps", "tcp://127.0.0.1:5551", "where the daemon publishes its maps"),
        ("--requests", "tcp://127.0.0.1:5552", "where it answers"),
    ):
        parser.add_argument(
            name, default=endpoint, metavar="ENDPOINT", help=f"{what} (default: {endpoint})"
        )
    return parser
