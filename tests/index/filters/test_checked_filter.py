import random

import filter_oracle
import pytest

from tfrs_negatives.index.filters import checked_filter
from tfrs_negatives.index.filters.filter_parser import MAX_COMPARISONS, MAX_DEPTH
from tfrs_negatives.index.filters.filter_tokens import MAX_LENGTH


@pytest.mark.parametrize(
    "where, match",
    [
        ("", "at its end: expected a comparison"),
        ("price <", "at its end: expected a number or a text"),
        ("price", "at its end: expected one of =="),
        ("price < 5 shop", "at character 11, 'shop': expected and, or, or the end"),
        ("price = 5", "Write a == b"),
        ("price < 5 && price > 1", "Write them as words"),
        ("price < 5 # all", "at character 11, '# all'"),
        ('shop == "a', "no closing"),
        (r'shop == "\q"', "expected an escape"),
        ("(price < 5", "the parenthesis that closes"),
        ("price in [1, 2", "a comma or the bracket that closes"),
        ("price in []", "expected a number or a text"),
        ("price in 1", r"expected a list such as \[1, 2\]"),
        ("price not 5", "expected in behind not"),
        ("price is 5", "is missing or is not missing"),
        ('"a" in 5', "expected the name of an attribute"),
        ("1 < price < 5", "expected and, or, or the end"),
        ("price < 1e999", "number of 64 bits"),
        ("price < 1x", "expected an attribute, a number"),
        ("__import__('os')", "expected one of =="),
        (
            "size < 5",
            r"an attribute of the index \(added, price, shop, tags\), .* size",
        ),
        ("price == 'a'", "price is a number. Write price < 1.5"),
        ("price in [1, 'a']", "price is a number"),
        ("'a' in price", "price is a number"),
        ("shop == 5", "shop is a category"),
        ("shop < 'a'", "shop is a category"),
        ("shop in ['a', 1]", "shop is a category"),
        ("'a' in shop", "shop is a category"),
        ("tags == 'a'", 'tags is a set. Write "a" in tags'),
        ("tags in ['a']", "tags is a set"),
        ("1 in tags", "tags is a set"),
        ("added > 'yesterday'", "added is a date"),
        (b"price < 5", "must be a text such as .* received bytes"),
        (True, "received bool"),
    ],
)
def test_what_is_no_filter_says_why(where, match):
    with pytest.raises(ValueError, match=match):
        checked_filter(where, filter_oracle.KINDS)


def test_an_index_without_attributes_says_so():
    with pytest.raises(ValueError, match=r"an attribute of the index \(none\)"):
        checked_filter("price < 5", {})


def nested(depth):
    return "(" * depth + "price < 5" + ")" * depth


def compared(number):
    return " or ".join(["price < 5"] * number)


@pytest.mark.parametrize(
    "fits, too_much, match",
    [
        (nested(MAX_DEPTH), nested(MAX_DEPTH + 1), "at most 32 nested"),
        ("not " * MAX_DEPTH + "price < 5", "not " * 33 + "price < 5", "32 nested"),
        (compared(MAX_COMPARISONS), compared(MAX_COMPARISONS + 1), "64 comparisons"),
        (
            "price < 5".ljust(MAX_LENGTH),
            "price < 5".ljust(MAX_LENGTH + 1),
            "at most 4,096 characters, received 4,097",
        ),
    ],
)
def test_limits(fits, too_much, match):
    checked_filter(fits, filter_oracle.KINDS)
    with pytest.raises(ValueError, match=match):
        checked_filter(too_much, filter_oracle.KINDS)


def test_a_filter_of_any_characters_ends_in_a_tree_or_a_value_error():

    rng = random.Random(0)
    pieces = ["price", "<", "5", "(", ")", "and", "not", "in", "[", "]", ",", '"', "\\"]
    pieces += ["\0", "é", "\ud800", "shop", "==", "'a'", "is", "missing", " ", "-", "."]
    for _ in range(3_000):
        where = " ".join(rng.choice(pieces) for _ in range(rng.randrange(12)))
        try:
            checked_filter(where, filter_oracle.KINDS)
        except ValueError as error:
            assert str(error).startswith("`where` is no filter")
