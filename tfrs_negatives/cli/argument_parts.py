"""What the arguments of several commands are made of."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

#: A SavedModel is a program: its initialisers can write files, for one.
TRUST = "loading it runs what it holds: load only what you trust"


def number(
    kind: Callable[[str], float],
    least: float,
    meaning: str,
    exclusive: bool = False,
    most: float = math.inf,
) -> Callable[[str], float]:
    """A parser of numbers within bounds; argparse puts the option's name before.

    Args:
      kind: int or float.
      least, most: The bounds.
      meaning: What is expected, for the error.
      exclusive: Whether `least` is out of bounds itself.
    """

    def parsed(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (least < value if exclusive else least <= value) or not (
            value <= most and value < math.inf
        ):
            raise argparse.ArgumentTypeError(f"expected {meaning}, received {text!r}.")
        return value

    return parsed


#: Parsers of whole numbers.
natural = number(int, 0, "a whole number of at least 0")
positive = number(int, 1, "a whole number of at least 1")


def add_data(parser: argparse.ArgumentParser) -> Callable[..., argparse.Action]:
    """Adds what says where a table is and what its columns mean."""
    add = parser.add_argument_group("data").add_argument
    add(
        "--data",
        metavar="PATH",
        help="a .csv, .tsv or .parquet file, a folder of them, a glob, or scheme://...",
    )
    add("--tfds", metavar="NAME", help="a TensorFlow Datasets name")
    add("--data-dir", metavar="DIR", help="the TFDS directory that holds it")
    add_columns(add)
    return add


def add_columns(add: Callable[..., argparse.Action]) -> None:
    """Adds what says what a table's columns mean."""
    for role, meaning in (
        ("user", "the users' ids"),
        ("item", "the items' ids"),
        ("request", "what was served together (else: user and UTC day)"),
        ("time", "seconds since 1970, or dates (else: file order)"),
        ("label", "numbers; rows at or below 0 are no positives, and dropped"),
    ):
        add(f"--{role}", metavar="COLUMN", help=meaning)


def add_columns_with_title(add: Callable[..., argparse.Action]) -> None:
    """Adds the same, and the column of titles."""
    add_columns(add)
    add("--title", metavar="COLUMN", help="the items' titles")


def check_source(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Ends with an error where a table is named twice, or half."""
    if options.data is not None and options.tfds is not None:
        parser.error(
            f"expected one source, received --data {options.data!r} and --tfds "
            f"{options.tfds!r}. Leave one out."
        )
    if options.data_dir is not None and options.tfds is None:
        parser.error("--data-dir belongs to --tfds, received none. Add --tfds NAME.")
