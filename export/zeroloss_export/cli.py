"""The command ``zeroloss-export``: train, evaluate, package."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

import torch

from zeroloss_export.commands import (
    dataset,
    evaluate_elements,
    package_elements,
    package_low_loss,
    package_quantify,
    specimen,
    table2,
    train_elements,
    train_paper,
    train_zlp,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="zeroloss-export",
        description="Train, evaluate and package networks, simulate (needs the extra 'export').",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_train(commands)
    evaluate = _subcommand(
        commands,
        "evaluate",
        evaluate_elements.HELP,
        evaluate_elements.EXAMPLES,
        evaluate_elements.run,
    )
    evaluate_elements.configure(evaluate)
    package = _subcommand(
        commands,
        "package",
        package_elements.HELP,
        package_elements.EXAMPLES,
        package_elements.run,
    )
    package_elements.configure(package)
    low_loss = _subcommand(
        commands,
        "low-loss",
        package_low_loss.HELP,
        package_low_loss.EXAMPLES,
        package_low_loss.run,
    )
    package_low_loss.configure(low_loss)
    quantify = _subcommand(
        commands,
        "quantify-package",
        package_quantify.HELP,
        package_quantify.EXAMPLES,
        package_quantify.run,
    )
    package_quantify.configure(quantify)
    simulated = _subcommand(commands, "specimen", specimen.HELP, specimen.EXAMPLES, specimen.run)
    specimen.configure(simulated)
    spectra = _subcommand(commands, "dataset", dataset.HELP, dataset.EXAMPLES, dataset.run)
    dataset.configure(spectra)
    table = _subcommand(commands, "table2", table2.HELP, table2.EXAMPLES, table2.run)
    table2.configure(table)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    torch.set_num_threads(options.threads)
    run: Callable[[argparse.Namespace], None] = options.run
    try:
        run(options)
    except (ValueError, OSError) as error:
        print(f"zeroloss-export: {error}", file=sys.stderr)
        return 1
    return 0


def _subcommand(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    help_line: str,
    examples: str,
    run: Callable[[argparse.Namespace], None],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=help_line,
        description=help_line,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.set_defaults(run=run)
    return parser


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    kinds = commands.add_parser(
        "train", help="Train networks: elements, paper on simulated spectra, zlp on measured ones."
    ).add_subparsers(dest="kind", required=True)
    zlp = _subcommand(kinds, "zlp", train_zlp.HELP, train_zlp.EXAMPLES, train_zlp.run)
    train_zlp.configure(zlp)
    elements = _subcommand(
        kinds, "elements", train_elements.HELP, train_elements.EXAMPLES, train_elements.run
    )
    train_elements.configure(elements)
    paper = _subcommand(kinds, "paper", train_paper.HELP, train_paper.EXAMPLES, train_paper.run)
    train_paper.configure(paper)


if __name__ == "__main__":
    raise SystemExit(main())
