"""Which optimizer trains tables of a size."""

from __future__ import annotations

#: Where it is chosen by the size of the tables.
AUTO = "auto"
ADAM = "adam"
LAZY_ADAM = "lazy-adam"

#: From so many users and items on `AUTO` is `LAZY_ADAM`: Adam then spends more time on
#: rows that a batch does not have than on everything else (docs/performance.md), as
#: measured with 1,024 rows, as many negatives and width 64; elsewhere a guess.
LARGE = 100_000


def chosen(option: str, num_users: int, num_items: int) -> str:
    """`ADAM` or `LAZY_ADAM`.

    Args:
      option: One of the three; what is no `AUTO` stays as it is.
      num_users, num_items: Rows of the embedding tables.
    """
    if option != AUTO:
        return option
    return LAZY_ADAM if num_users + num_items >= LARGE else ADAM


def told(option: str, num_users: int, num_items: int) -> str:
    """What was chosen and why, for people."""
    name = chosen(option, num_users, num_items)
    if option != AUTO:
        return f"{name}, as asked for"
    return (
        f"{name}, for {num_users + num_items:,} users and items "
        f"({ADAM} below {LARGE:,}, {LAZY_ADAM} from there on)"
    )
