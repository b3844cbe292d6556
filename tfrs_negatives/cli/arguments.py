"""The arguments of the console script."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from tfrs_negatives.cli.command_error import CommandError
from tfrs_negatives.cli.pipeline_arguments import add_pipeline
from tfrs_negatives.cli.row_names import OTHERS
from tfrs_negatives.recommender.optimizer_choice import ADAM, AUTO, LARGE, LAZY_ADAM
from tfrs_negatives.version import __version__

# A SavedModel is a program: its initialisers can write files, for one.
_TRUST = "loading it runs what it holds: load only what you trust"

_ORDERS = ("shuffled", "request_sorted", "spread")


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
    _add_train(commands)
    _add_query(commands)
    _add_serve(commands)
    _add_audit(commands)
    add_pipeline(
        commands,
        _add_columns_with_title,
        _number(int, 1, "a whole number of at least 1"),
        _number(int, 0, "a whole number of at least 0"),
    )
    options = parser.parse_args(argv)
    if options.command is None:
        parser.error(
            "expected a command, received none. Use train, audit, query, serve or "
            "pipeline."
        )
    if options.command == "train":
        _check_train(parser, options)
    if options.command in ("train", "audit"):
        _check_source(parser, options)
    if options.command == "serve":
        _check_serve(parser, options)
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


def _add_train(commands: Any) -> None:
    parser = commands.add_parser(
        "train",
        help="train on a table of interactions, against baselines, and export",
        description=(
            "Trains a two-tower model on a table of interactions; compares it with "
            "popularity, item neighbours, EASE^R, and TFRS on the same towers; exports "
            "it. Without --data and --tfds: MovieLens latest-small."
        ),
    )
    add = _add_data(parser)
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
    positive = _number(int, 1, "a whole number of at least 1")
    add("--batch-size", type=_number(int, 2, "a whole number of at least 2"))
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
        type=_number(int, 0, "a whole number of at least 0"),
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
        type=_number(float, 0, "a number from 0 to below 1", most=1),
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
    rate = _number(float, 0, "a number above 0", exclusive=True)
    add(
        "--temperature",
        type=rate,
        help="scores are cosines divided by it (else: 0.1 from 200,000 training rows "
        "on, 0.15 for fewer)",
    )
    add("--learning-rate", type=rate, help="of the optimizer")
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
        type=_number(int, 0, "a whole number of at least 0"),
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
        help="whether to train what is exported anew, on all rows, the held-out ones "
        "too, for as many epochs",
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
        type=_number(int, 0, "a whole number of at least 0"),
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
        learning_rate=0.01,
        optimizer=AUTO,
        seeds=[0],
        num_negatives=None,
        baselines=list(OTHERS),
        index=True,
    )


def _add_data(parser: argparse.ArgumentParser) -> Callable[..., argparse.Action]:
    """Adds what says where a table is and what its columns mean."""
    add = parser.add_argument_group("data").add_argument
    add(
        "--data",
        metavar="PATH",
        help="a .csv, .tsv or .parquet file, a folder of them, a glob, or scheme://...",
    )
    add("--tfds", metavar="NAME", help="a TensorFlow Datasets name")
    add("--data-dir", metavar="DIR", help="the TFDS directory that holds it")
    _add_columns(add)
    return add


def _add_columns(add: Callable[..., argparse.Action]) -> None:
    for role, meaning in (
        ("user", "the users' ids"),
        ("item", "the items' ids"),
        ("request", "what was served together (else: user and UTC day)"),
        ("time", "seconds since 1970, or dates (else: file order)"),
        ("label", "numbers; rows at or below 0 are no positives, and dropped"),
    ):
        add(f"--{role}", metavar="COLUMN", help=meaning)


def _add_columns_with_title(add: Callable[..., argparse.Action]) -> None:
    _add_columns(add)
    add("--title", metavar="COLUMN", help="the items' titles")


def _add_audit(commands: Any) -> None:
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
    _add_data(parser)
    positive = _number(int, 1, "a whole number of at least 1")
    several = _number(int, 2, "a whole number of at least 2")
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
    add("--seed", type=_number(int, 0, "a whole number of at least 0"))
    add = parser.add_argument_group("model").add_argument
    add(
        "--model",
        metavar="PATH",
        help=(
            f"what train wrote, or an export ({_TRUST}); or an .npz file of embeddings"
        ),
    )
    add(
        "--temperature",
        type=_number(float, 0, "a number above 0", exclusive=True),
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


def _add_query(commands: Any) -> None:
    parser = commands.add_parser(
        "query",
        help="ask an exported model for a user's items",
        description="Prints the best items for a user: rank, id, title, score.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help=f"what train wrote, or its folder model/; {_TRUST}",
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
        type=_number(int, 1, "a whole number of at least 1"),
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
        type=_number(float, -1e6, "a number from -1000000 to 1000000", most=1e6),
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


def _add_serve(commands: Any) -> None:
    parser = commands.add_parser(
        "serve",
        help="answer over TensorFlow Serving's REST and gRPC protocols",
        description=(
            "Serves an exported model over TensorFlow Serving's protocols, and new "
            "versions of it as they appear. Needs the extra serve."
        ),
    )
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help=(
            "what train wrote, an export, or a folder of versions (1, 2, ...), new "
            f"ones included; {_TRUST}"
        ),
    )
    positive = _number(int, 1, "a whole number of at least 1")
    port = _number(int, 0, "a port from 0 to 65535", most=65535)
    add("--name", help="what clients call the model")
    add("--host", help="the address to listen on; 0.0.0.0 for all")
    add("--port", type=port, help="for REST; 0 takes a free one")
    add("--grpc-port", type=port, help="for gRPC; 0 takes a free one")
    add(
        "--poll-seconds",
        type=_number(float, 0, "a number above 0", exclusive=True),
        help="how often to look for new versions",
    )
    number = _number(int, 0, "the number of a version", most=2**63 - 1)
    add = parser.add_argument_group("versions").add_argument
    add(
        "--versions",
        type=number,
        nargs="+",
        metavar="N",
        help="serve these alone, such as one that is pinned (else: the highest)",
    )
    add("--latest", type=positive, metavar="COUNT", help="serve so many of the highest")
    add(
        "--label",
        type=_label,
        action="append",
        metavar="LABEL=N",
        help="a label that clients may name a version by; may be repeated",
    )
    add(
        "--reload",
        action="store_true",
        help=(
            "let clients change which versions are served, and their labels, over "
            "gRPC (HandleReloadConfigRequest): whoever reaches the port may, or with a "
            "token whoever names it"
        ),
    )
    add = parser.add_argument_group("transport and logs").add_argument
    add("--tls-certificate", metavar="FILE", help="PEM, for both protocols")
    add("--tls-key", metavar="FILE", help="its private key, PEM")
    add(
        "--tls-client-ca",
        metavar="FILE",
        help="who vouches for clients, which then must have a certificate; PEM",
    )
    add(
        "--cors-origin",
        action="append",
        metavar="ORIGIN",
        help=(
            "an origin whose pages may ask over REST, such as https://shop.example, or "
            "*; may be repeated"
        ),
    )
    add("--access-log", action="store_true", help="log each answer")
    add("--log-format", choices=("text", "json"), help="lines of the log")
    add = parser.add_argument_group("who may ask").add_argument
    add(
        "--query-token-file",
        metavar="FILE",
        help=(
            "answer only clients who name the token in this file, over both protocols "
            "(Authorization: Bearer TOKEN)"
        ),
    )
    add("--query-token-env", metavar="NAME", help="the same, of a variable's token")
    add = parser.add_argument_group("items that change").add_argument
    add(
        "--admin-token-file",
        metavar="FILE",
        help=(
            "let clients who name the token in this file change items (POST :upsert "
            "and :delete); else items are followed that another process changes"
        ),
    )
    add("--admin-token-env", metavar="NAME", help="the same, of a variable's token")
    add = parser.add_argument_group("limits").add_argument
    add("--max-batch", type=positive, help="rows of a request, or answered together")
    add(
        "--max-wait-ms",
        type=_number(float, 0, "a number of at least 0"),
        help="how long a request waits for others, while a thread is idle",
    )
    add("--max-waiting", type=positive, help="requests that wait for a thread")
    add("--max-answers", type=positive, help="rows of a request times k")
    add("--max-exclusions", type=positive, help="rows of a request times exclusions")
    add("--max-filters", type=positive, help="different filters of a request")
    add("--max-values", type=positive, help="numbers and strings of a request")
    add("--max-request-bytes", type=positive, help="size of a request")
    add(
        "--max-bytes-in-flight",
        type=positive,
        help="bodies and answers in memory at a time",
    )
    add("--max-connections", type=positive, help="connections at a time")
    seconds = _number(float, 0, "a number above 0", exclusive=True)
    add("--head-seconds", type=seconds, help="how long the head of a request may take")
    add("--body-seconds", type=seconds, help="how long the body of a request may take")
    add("--idle-seconds", type=positive, help="silence between requests")
    add("--threads", type=positive, help="batches at a time (else: processors)")
    # As `serving.Server` and `serving.Limits` have them, which are not imported here.
    parser.set_defaults(
        name="retrieval",
        host="127.0.0.1",
        port=8501,
        grpc_port=8500,
        poll_seconds=2.0,
        versions=[],
        latest=1,
        label=[],
        cors_origin=[],
        log_format="text",
        max_batch=256,
        max_wait_ms=0.0,
        max_waiting=1024,
        max_answers=100_000,
        max_exclusions=100_000,
        max_filters=16,
        max_values=2**17,
        max_request_bytes=4 * 2**20,
        max_bytes_in_flight=32 * 2**20,
        max_connections=1024,
        head_seconds=10.0,
        body_seconds=10.0,
        idle_seconds=5,
    )


def _check_serve(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.versions and options.latest != 1:
        parser.error("--versions and --latest exclude each other: leave one out")
    if (options.tls_certificate is None) != (options.tls_key is None):
        parser.error("--tls-certificate and --tls-key go together: pass both")
    if options.admin_token_file is not None and options.admin_token_env is not None:
        parser.error("--admin-token-file and --admin-token-env exclude each other")
    if options.query_token_file is not None and options.query_token_env is not None:
        parser.error("--query-token-file and --query-token-env exclude each other")
    if options.tls_client_ca is not None and options.tls_key is None:
        parser.error("--tls-client-ca needs --tls-certificate and --tls-key")


def _label(text: str) -> tuple[str, int]:
    label, _, number = text.rpartition("=")
    if not label or not (number.isascii() and number.isdecimal()) or len(number) > 18:
        raise argparse.ArgumentTypeError(
            f"expected LABEL=N, such as stable=3, received {text!r}"
        )
    return label, int(number)


def _check_source(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.data is not None and options.tfds is not None:
        parser.error(
            f"expected one source, received --data {options.data!r} and --tfds "
            f"{options.tfds!r}. Leave one out."
        )
    if options.data_dir is not None and options.tfds is None:
        parser.error("--data-dir belongs to --tfds, received none. Add --tfds NAME.")


def _check_train(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.held_out is not None and options.data is None:
        parser.error("--held-out belongs to --data, received none. Add --data FILE.")
    if options.live and not options.index:
        parser.error("--live writes an index, and --no-index none: leave one out")
    if len(set(options.seeds)) < len(options.seeds):
        parser.error(f"--seeds must differ, received {options.seeds}. Drop repeats.")


def _number(
    kind: Callable[[str], float],
    least: float,
    meaning: str,
    exclusive: bool = False,
    most: float = math.inf,
) -> Callable[[str], float]:
    """A parser of numbers within bounds; argparse puts the option's name before."""

    def parse_number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (least < value if exclusive else least <= value) or not (
            value <= most and value < math.inf
        ):
            raise argparse.ArgumentTypeError(f"expected {meaning}, received {text!r}.")
        return value

    return parse_number
