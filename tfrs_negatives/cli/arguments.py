"""The arguments of the console script."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from tfrs_negatives.cli.argument_parts import check_source
from tfrs_negatives.cli.audit_arguments import add_audit
from tfrs_negatives.cli.command_error import CommandError
from tfrs_negatives.cli.pipeline_arguments import add_pipeline
from tfrs_negatives.cli.query_arguments import add_query
from tfrs_negatives.cli.serve_arguments import add_serve, check_serve
from tfrs_negatives.cli.train_arguments import add_train, check_train
from tfrs_negatives.version import __version__


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses arguments.

    Returns:
      `argparse.Namespace` with `command`, and each option of that command.

    Raises:
      CommandError: Arguments that are wrong.
      SystemExit: After `--help` or `--version`.
    """
    parser = _Parser(
        prog="tfrs-negatives",
        description="Two-tower retrieval with the right negatives.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    add_train(commands)
    add_query(commands)
    add_serve(commands)
    add_audit(commands)
    add_pipeline(commands)
    options = parser.parse_args(argv)
    if options.command is None:
        parser.error(
            "expected a command, received none. Use train, audit, query, serve or "
            "pipeline."
        )
    if options.command == "train":
        check_train(parser, options)
    if options.command in ("train", "audit"):
        check_source(parser, options)
    if options.command == "serve":
        check_serve(parser, options)
    return options


class _Parser(argparse.ArgumentParser):
    """Tells errors in one line, through `CommandError`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            allow_abbrev=False,
            **kwargs,
        )

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message} (see {self.prog} --help)")
