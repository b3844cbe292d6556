"""The arguments of `tfrs-negatives pipeline`."""

from __future__ import annotations

import argparse
from typing import Any

from tfrs_negatives.cli.argument_parts import (
    add_columns_with_title,
    natural,
    positive,
)

# Rows that one worker holds: as `pipeline.shards.SHARD_ROWS`.
_HEAVY_ROWS = 2**22


def add_pipeline(commands: Any) -> None:
    """Adds the command to where commands are added."""
    parser = commands.add_parser(
        "pipeline",
        help="count, order or split a table of any size, on Apache Beam",
        description=(
            "Steps before training, on one machine or a cluster, by Apache Beam. A "
            "step that was ended goes on where it was if it is started again."
        ),
    )
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    for name, does in (
        ("count", "count the ids of a column: a vocabulary, and StaticFrequency"),
        ("order", "write rows by request, or shuffled, into shards"),
        ("split", "write each user's last fifth of rows apart from the others"),
    ):
        step = steps.add_parser(name, help=does, description=f"{does.capitalize()}.")
        add = step.add_argument_group("data").add_argument
        add(
            "--input",
            metavar="PATH",
            required=True,
            help="a file, a folder of files, a glob, or scheme://...",
        )
        add_columns_with_title(add)
        add = step.add_argument_group("output").add_argument
        add(
            "--output",
            metavar="DIR",
            required=True,
            help="what to write, where nothing is yet: a path that all workers have, "
            "or scheme://...",
        )
        add("--shards", type=positive, metavar="N", help="into how many files")
        _add_options(step, name)
        _add_engine(step)


def _add_options(step: argparse.ArgumentParser, name: str) -> None:
    add = step.add_argument_group("step").add_argument
    if name == "count":
        roles = ("user", "item", "request")
        add("--role", choices=roles, default="item", help="which column is counted")
        return
    add(
        "--heavy-rows",
        type=positive,
        metavar="N",
        default=_HEAVY_ROWS,
        help="rows of one user or request that one worker may hold",
    )
    if name == "order":
        add(
            "--order",
            choices=("grouped", "shuffled"),
            default="grouped",
            help="rows of a request together, or all at random",
        )
        add("--seed", type=natural, metavar="N", default=0, help="of shuffled")


def _add_engine(step: argparse.ArgumentParser) -> None:
    add = step.add_argument_group("engine").add_argument
    add(
        "--runner",
        default="local",
        help="local, or a runner of Beam, such as FlinkRunner or DataflowRunner",
    )
    add(
        "--workers",
        type=positive,
        metavar="N",
        default=1,
        help="processes of the local runner",
    )
    add(
        "--runner-options",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="...",
        help="all that follows goes to the runner: --region=... and so on",
    )
    add(
        "--verbose",
        type=int,
        choices=(0, 1),
        default=1,
        help="whether to show progress",
    )
