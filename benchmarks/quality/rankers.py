"""What a subject of the benchmark returns: a way to score all items for users."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass
class Factors:
    """Scores that are dot products.

    Attributes:
      users: `[num_users, d]` float32.
      items: `[num_items, d]` float32.
    """

    users: np.ndarray
    items: np.ndarray


@dataclasses.dataclass
class Scores:
    """Scores of any other kind.

    Attributes:
      of: Function of `[n]` users to their scores `[n, num_items]`.
    """

    of: Callable


@dataclasses.dataclass
class Indexed:
    """Dot products, and an index of the package that looks for the best ones.

    Attributes:
      users: `[num_users, d]` float32.
      index: Of the items, an `index.ScaNN` or `index.BruteForce`.
    """

    users: np.ndarray
    index: Callable
