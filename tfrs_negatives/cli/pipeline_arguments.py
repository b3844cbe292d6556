"""The arguments of `tfrs-negatives pipeline`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, TypeAlias

from tfrs_negatives.cli.argument_parts import (
    add_columns_with_title,
    natural,
    number,
    positive,
)

# Rows that one worker holds: as `pipeline.shards.SHARD_ROWS`.
_HEAVY_ROWS = 2**22

#: Adds arguments to a step.
_Adds: TypeAlias = Callable[[argparse.ArgumentParser], None]


def add_pipeline(commands: Any) -> None:
    """Adds the command to where commands are added."""
    parser = commands.add_parser(
        "pipeline",
        help="steps before and after training on tables of any size, on Apache Beam",
        description=(
            "Steps before and after training, on one machine or a cluster, by Apache "
            "Beam. A step that was ended goes on where it was if it is started again."
        ),
    )
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    for name, (does, adds) in _STEPS.items():
        step = steps.add_parser(name, help=does, description=f"{does.capitalize()}.")
        for add in adds:
            add(step)
        _add_engine(step)


def _add_input(step: argparse.ArgumentParser) -> Callable[..., argparse.Action]:
    add = step.add_argument_group("data").add_argument
    add(
        "--input",
        metavar="PATH",
        required=True,
        help="a file, a folder of files, a glob, or scheme://...",
    )
    return add


def _add_embeddings(step: argparse.ArgumentParser) -> None:
    add = step.add_argument_group("embeddings").add_argument
    for name in ("queries", "items"):
        add(
            f"--{name}",
            metavar="DIR",
            required=True,
            help=f"what `pipeline embed` wrote of {name.replace('queries', 'users')}",
        )


def _add_positives(step: argparse.ArgumentParser) -> None:
    add = step.add_argument_group("data").add_argument
    add(
        "--positives",
        metavar="PATH",
        help="interactions: what users are known to like is no negative of theirs",
    )
    add_columns_with_title(add)


def _add_held_out(step: argparse.ArgumentParser) -> None:
    _add_events(step)
    step.add_argument(
        "--exclude",
        metavar="PATH",
        help="interactions of training, whose items are no answer to their users",
    )


def _add_mining(step: argparse.ArgumentParser) -> None:
    add = step.add_argument
    add(
        "--negatives",
        type=positive,
        metavar="N",
        required=True,
        help="how many for each user",
    )
    add(
        "--range-min",
        type=natural,
        metavar="N",
        default=0,
        help="how many of the best items to skip",
    )
    add(
        "--range-max",
        type=positive,
        metavar="N",
        help="how many items to look at (else: 100, or 10 times the negatives, more)",
    )
    add("--max-score", type=float, metavar="SCORE", help="of a negative, at most")
    add(
        "--sampling",
        choices=("uniform", "top"),
        default="uniform",
        help="at random from the range, or the best of it",
    )
    add("--seed", type=natural, metavar="N", default=0, help="of uniform")


def _add_measures(step: argparse.ArgumentParser) -> None:
    add = step.add_argument
    add("--ks", type=positive, nargs="+", metavar="K", default=[10, 50, 100])
    add(
        "--measures",
        nargs="+",
        choices=("recall", "ndcg", "mrr", "hit_rate"),
        default=["recall", "ndcg"],
    )


def _add_batches(step: argparse.ArgumentParser) -> None:
    several = number(int, 2, "a whole number of at least 2")
    add = step.add_argument
    add(
        "--batch-sizes",
        type=several,
        nargs="+",
        metavar="ROWS",
        default=[2**n for n in range(8, 14)],
        help="sizes of batches; those above the number of rows are left out",
    )
    add(
        "--orders",
        nargs="+",
        choices=("shuffled", "request_sorted"),
        default=["shuffled", "request_sorted"],
        help="how rows come",
    )
    add(
        "--max-batches",
        type=several,
        metavar="N",
        default=64,
        help="how many of an epoch are looked at",
    )
    add("--seed", type=natural, metavar="N", default=0, help="of orders and samples")


def _add_events(step: argparse.ArgumentParser) -> None:
    add_columns_with_title(_add_input(step))


def _add_rows(step: argparse.ArgumentParser) -> None:
    add = _add_input(step)
    add("--id", metavar="COLUMN", required=True, help="the ids of the rows")
    add(
        "--feature",
        metavar="INPUT=COLUMN",
        action="append",
        default=[],
        type=_pair,
        help="which column an input of the model is, where names differ; repeatable",
    )


def _add_output(step: argparse.ArgumentParser) -> None:
    add = step.add_argument_group("output").add_argument
    add(
        "--output",
        metavar="DIR",
        required=True,
        help="what to write, where nothing is yet: a path that all workers have, "
        "or scheme://...",
    )


def _add_shards(step: argparse.ArgumentParser) -> None:
    step.add_argument(
        "--shards", type=positive, metavar="N", help="into how many files"
    )


def _add_role(step: argparse.ArgumentParser) -> None:
    roles = ("user", "item", "request")
    step.add_argument(
        "--role", choices=roles, default="item", help="which column is counted"
    )


def _add_heavy_rows(step: argparse.ArgumentParser) -> None:
    step.add_argument(
        "--heavy-rows",
        type=positive,
        metavar="N",
        default=_HEAVY_ROWS,
        help="rows of one user or request that one worker may hold",
    )


def _add_order(step: argparse.ArgumentParser) -> None:
    step.add_argument(
        "--order",
        choices=("grouped", "shuffled"),
        default="grouped",
        help="rows of a request together, or all at random",
    )
    step.add_argument(
        "--seed", type=natural, metavar="N", default=0, help="of shuffled"
    )


def _add_model(step: argparse.ArgumentParser) -> None:
    add = step.add_argument
    add("--model", metavar="DIR", required=True, help="a SavedModel of a tower")
    add(
        "--signature",
        metavar="NAME",
        default="serving_default",
        help="of the model; embed_query is an export's, for its users",
    )
    add(
        "--batch-size",
        type=positive,
        metavar="ROWS",
        default=1024,
        help="rows that the model gets at a time",
    )


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


def _pair(text: str) -> tuple[str, str]:
    name, has_column, column = text.partition("=")
    if not (name and has_column and column):
        raise argparse.ArgumentTypeError(f"expected INPUT=COLUMN, received {text!r}.")
    return name, column


# What each step does, and its arguments but for those of the engine.
_STEPS: dict[str, tuple[str, tuple[_Adds, ...]]] = {
    "count": (
        "count the ids of a column: a vocabulary, and StaticFrequency",
        (_add_events, _add_output, _add_shards, _add_role),
    ),
    "order": (
        "write rows by request, or shuffled, into shards",
        (_add_events, _add_output, _add_shards, _add_heavy_rows, _add_order),
    ),
    "split": (
        "write each user's last fifth of rows apart from the others",
        (_add_events, _add_output, _add_shards, _add_heavy_rows),
    ),
    "audit": (
        "measure what the negatives of a table are; write JSON and one HTML page",
        (_add_events, _add_output, _add_heavy_rows, _add_batches),
    ),
    "embed": (
        "embed items, or users, by a saved tower, into shards that an index reads",
        (_add_rows, _add_output, _add_shards, _add_model),
    ),
    "mine": (
        "mine hard negatives of embedded users among embedded items",
        (_add_embeddings, _add_positives, _add_output, _add_mining),
    ),
    "recall": (
        "rank held-out rows among embedded items, and write recall and NDCG",
        (_add_embeddings, _add_held_out, _add_output, _add_measures),
    ),
}
