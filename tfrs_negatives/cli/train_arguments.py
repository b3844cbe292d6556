"""The arguments of `tfrs-negatives train`."""

from __future__ import annotations

import argparse
from typing import Any

from tfrs_negatives.cli.argument_parts import add_data, natural, number, positive
from tfrs_negatives.cli.row_names import OTHERS
from tfrs_negatives.recommender.optimizer_choice import ADAM, AUTO, LARGE, LAZY_ADAM


def add_train(commands: Any) -> None:
    """Adds the command to where commands are added."""
    parser = commands.add_parser(
        "train",
        help="train on a table of interactions, against baselines, and export",
        description=(
            "Trains a two-tower model on a table of interactions; compares it with "
            "popularity, item neighbours, EASE^R, and TFRS on the same towers; exports "
            "it. Without --data and --tfds: MovieLens latest-small."
        ),
    )
    add = add_data(parser)
    add("--title", metavar="COLUMN", help="the items' titles")
    add(
        "--held-out",
        metavar="FILE",
        help="rows to measure on, in the columns of --data (else: what each user did "
        "last)",
    )
    for role in ("user", "item"):
        add(
            f"--{role}-features",
            nargs="+",
            default=[],
            metavar="COLUMN",
            help=(
                f"what is known of {role}s: NAME, or NAME:KIND with category, number, "
                "text or date"
            ),
        )
        add(
            f"--{role}s",
            metavar="FILE",
            help=f"a table with a row for each {role}, which has their features (else: "
            "the interactions have)",
        )

    add = parser.add_argument_group("output").add_argument
    add(
        "--output",
        metavar="DIR",
        default="tfrs-negatives-output",
        help="folder to write; an earlier output is replaced, other files never",
    )
    add(
        "--verbose",
        type=int,
        choices=(0, 1, 2),
        default=2,
        help="progress: none, Keras's bars, or a line an epoch",
    )

    add = parser.add_argument_group("training (all models)").add_argument
    add("--batch-size", type=number(int, 2, "a whole number of at least 2"))
    add("--epochs", type=positive, help="how many at the most (else: by the table)")
    add(
        "--patience",
        type=positive,
        metavar="EPOCHS",
        help="stop after so many epochs without a better validation",
    )
    add(
        "--no-early-stopping",
        dest="patience",
        action="store_const",
        const=None,
        help="make all epochs, on all training rows",
    )
    add(
        "--history",
        type=natural,
        metavar="N",
        help="a user's last N items are part of a query; 0: none (else: 50, if there "
        "are times, of up to 20 million rows)",
    )
    add(
        "--ties",
        choices=("above", "unseen"),
        help="what a row's history has of the user's rows of the same time: those "
        "above it in the table, or nothing (else: above, unless sorted by item)",
    )
    add(
        "--repeats",
        action=argparse.BooleanOptionalAction,
        help="whether to train on rows of items that the user had before",
    )
    add(
        "--query",
        choices=("user", "history"),
        help="what a query is made of beside features: the user's id and history, or "
        "the history alone, as for sessions",
    )
    add(
        "--unknown-share",
        type=number(float, 0, "a number from 0 to below 1", most=1),
        metavar="SHARE",
        help="rows that are trained as those of a user that is not known (else: 0.2, "
        "with histories)",
    )
    add(
        "--steps-per-epoch",
        type=positive,
        metavar="STEPS",
        help="end an epoch after so many steps, wherever the rows are (else: all rows)",
    )
    add("--dim", type=positive, help="width of the embeddings")
    add(
        "--hidden",
        type=positive,
        nargs="*",
        metavar="WIDTH",
        help="widths of hidden layers between the ids' embeddings and the output",
    )
    rate = number(float, 0, "a number above 0", exclusive=True)
    add(
        "--temperature",
        type=rate,
        help="scores are cosines divided by it (else: 0.1 from 200,000 training rows "
        "on, 0.15 for fewer)",
    )
    add(
        "--learning-rate",
        type=rate,
        help="of the optimizer (else: 0.01 with histories, 0.005 without)",
    )
    add(
        "--optimizer",
        choices=(AUTO, ADAM, LAZY_ADAM),
        help=(
            f"{ADAM} changes every row of the embedding tables at every step, "
            f"{LAZY_ADAM} those of the batch; {AUTO} is {LAZY_ADAM} from {LARGE:,} "
            "users and items on"
        ),
    )
    add(
        "--seeds",
        type=natural,
        nargs="+",
        metavar="SEED",
        help="one run of both models for each",
    )
    add(
        "--validation",
        action="store_true",
        help=(
            "put each user's last interactions aside, and hold out the last ones of "
            "the rest: for choosing settings without looking at the test"
        ),
    )

    add(
        "--all-rows",
        action=argparse.BooleanOptionalAction,
        help="whether to train the exported model once more on all rows, including the "
        "held-out ones, for as many epochs",
    )

    add = parser.add_argument_group("large tables").add_argument
    add(
        "--baselines",
        nargs="*",
        choices=OTHERS,
        metavar="NAME",
        help=(
            "what ours is compared with, none or several of: "
            + ", ".join(map(repr, OTHERS))
        ),
    )
    add(
        "--index",
        action=argparse.BooleanOptionalAction,
        help="whether to write model/ with an index, or embeddings.npz in its place",
    )
    add(
        "--live",
        action="store_true",
        help=(
            "write model/ with items that can be changed and filtered while they are "
            "served; features of items are their attributes"
        ),
    )
    add(
        "--evaluate-users",
        type=positive,
        metavar="USERS",
        help=(
            "how many users to evaluate at most, drawn at random (else: up to 200,000 "
            "that make up to 2e9 pairs with the items)"
        ),
    )

    add = parser.add_argument_group("negatives (ours only)").add_argument
    add(
        "--num-negatives",
        type=natural,
        metavar="K",
        help=(
            "negatives that a batch shares, drawn uniformly (else: all items, of up to "
            "20,000; 1,024 of more)"
        ),
    )
    parser.set_defaults(
        batch_size=1024,
        epochs=None,
        patience=3,
        history=None,
        ties=None,
        query="user",
        unknown_share=None,
        repeats=False,
        all_rows=True,
        dim=64,
        hidden=[],
        temperature=None,
        learning_rate=None,
        optimizer=AUTO,
        seeds=[0],
        num_negatives=None,
        baselines=list(OTHERS),
        index=True,
    )


def check_train(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends with an error where options do not go together."""
    if options.held_out is not None and options.data is None:
        parser.error("--held-out belongs to --data, received none. Add --data FILE.")
    if options.live and not options.index:
        parser.error("--live writes an index, and --no-index none: leave one out")
    if len(set(options.seeds)) < len(options.seeds):
        parser.error(f"--seeds must differ, received {options.seeds}. Drop repeats.")
