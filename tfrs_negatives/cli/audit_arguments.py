"""The arguments of `tfrs-negatives audit`."""

from __future__ import annotations

from typing import Any

from tfrs_negatives.cli.argument_parts import TRUST, add_data, natural, number, positive

_ORDERS = ("shuffled", "request_sorted", "spread")


def add_audit(commands: Any) -> None:
    """Adds the command to where commands are added."""
    parser = commands.add_parser(
        "audit",
        help="measure what the negatives of a table, and of a model, are",
        description=(
            "Measures false negatives, distinct keys, popularity and what masks leave, "
            "over batch sizes and orders of a table of interactions; recommends "
            "settings; writes JSON and one HTML page. Without --data and --tfds: "
            "MovieLens latest-small."
        ),
    )
    add_data(parser)
    several = number(int, 2, "a whole number of at least 2")
    add = parser.add_argument_group("batches").add_argument
    add(
        "--batch-sizes",
        type=several,
        nargs="+",
        metavar="ROWS",
        help="sizes of batches; those above the number of rows are left out",
    )
    add("--orders", nargs="+", choices=_ORDERS, help="how rows come")
    add("--max-batches", type=several, help="how many of an epoch are looked at")
    add("--spread-buffer", type=positive, help="rows that wait in spread, in batches")
    add("--seed", type=natural)
    add = parser.add_argument_group("model").add_argument
    add(
        "--model",
        metavar="PATH",
        help=(
            f"what train wrote, or an export ({TRUST}); or an .npz file of embeddings"
        ),
    )
    add(
        "--temperature",
        type=number(float, 0, "a number above 0", exclusive=True),
        help="scores are divided by it (else: what train wrote, or 1)",
    )
    add("--probes", type=positive, help="rows whose scores are looked at")
    add = parser.add_argument_group("output").add_argument
    add(
        "--output",
        metavar="DIR",
        default="tfrs-negatives-audit",
        help="folder to write; an earlier audit is replaced, other files never",
    )
    add(
        "--verbose",
        type=int,
        choices=(0, 1),
        default=1,
        help="whether to show progress",
    )
    parser.set_defaults(
        batch_sizes=[256, 512, 1024, 2048, 4096, 8192],
        orders=list(_ORDERS),
        max_batches=64,
        spread_buffer=16,
        seed=0,
        probes=200,
    )
