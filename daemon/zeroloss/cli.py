"""The command `zeroloss`: collects its subcommands from every installed part of the project."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from zeroloss import __version__

EXIT_FAILED = 2
EXIT_INTERRUPTED = 130
ORDER = (
    "demo",
    "serve",
    "watch",
    "spectrum",
    "replay",
    "map",
    "identify",
    "quantify",
    "dielectric",
    "record",
    "microscope",
    "models",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns its exit code.

    Errors of the user's making are one sentence on stderr and exit code 2; Ctrl-C is 130.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands = {item.name: item for item in entry_points(group="zeroloss.commands")}
    chosen = next((item for item in arguments if not item.startswith("-")), None)
    parser = _parser(commands, chosen)
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return EXIT_FAILED
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return 0
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        ours = type(error).__module__.startswith("zeroloss")
        if not ours and not isinstance(error, OSError):
            raise
        print(f"zeroloss {args.command}: {_sentence(error)}", file=sys.stderr)
        return EXIT_FAILED


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _parser(commands: dict[str, EntryPoint], chosen: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zeroloss",
        description="Live element maps and zero-loss-peak subtraction beside the microscope.",
        epilog="Start with: zeroloss demo   |   Help on a command: zeroloss serve --help",
    )
    parser.add_argument("--version", action="version", version=f"zeroloss {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    # A command that was named is the only one to be loaded; the overview loads them all.
    named = {chosen: commands[chosen]} if chosen in commands else commands
    for name in sorted(named, key=lambda item: ORDER.index(item) if item in ORDER else len(ORDER)):
        module: ModuleType = named[name].load()
        subparser = subparsers.add_parser(name, help=module.HELP)
        if name == chosen:
            module.configure(subparser)
            subparser.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
