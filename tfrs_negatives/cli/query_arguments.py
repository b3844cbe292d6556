"""The arguments of `tfrs-negatives query`."""

from __future__ import annotations

from typing import Any

from tfrs_negatives.cli.argument_parts import TRUST, number, positive


def add_query(commands: Any) -> None:
    """Adds the command to where commands are added."""
    parser = commands.add_parser(
        "query",
        help="ask an exported model for a user's items",
        description="Prints the best items for a user: rank, id, title, score.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=f"what train wrote, or its folder model/; {TRUST}",
    )
    parser.add_argument("--user", metavar="ID")
    parser.add_argument(
        "--history",
        nargs="+",
        default=[],
        metavar="ID",
        help=(
            "what the user did, items' ids, the newest last; without --user somebody "
            "of whom nothing else is known"
        ),
    )
    parser.add_argument(
        "--k",
        type=positive,
        default=10,
        help="how many items",
    )
    parser.add_argument(
        "--exclude",
        nargs="+",
        default=[],
        metavar="ID",
        help="items to leave out",
    )
    parser.add_argument(
        "--popularity-discount",
        type=number(float, -1e6, "a number from -1000000 to 1000000", most=1e6),
        metavar="BETA",
        help=(
            "share of an item's log popularity that is taken off its score: 0 (the "
            "default) ranks by probability, 1 by how much likelier than for all users"
        ),
    )
    parser.add_argument(
        "--where",
        metavar="FILTER",
        help=(
            'items that pass a filter alone, such as \'price < 50 and "red" in '
            "colours', of a model whose items have attributes"
        ),
    )
    parser.add_argument(
        "--keep-history",
        action="store_true",
        help="list the items that the user has already, too",
    )
