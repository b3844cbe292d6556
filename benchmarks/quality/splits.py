"""Data sets, each split into training and held-out interactions.

Gowalla (`gowalla.npz`) and Yelp 2018 (`yelp18.npz`) have the split of LightGCN (He et
al., SIGIR 2020). Of MovieTweetings (Dooms et al., 2013) the last fifth of a user's
ratings in time is held out, and of MovieLens 1M (GroupLens; the copy has no times) a
random fifth; there every rating counts as an interaction. The folder is that of
TFRS_NEGATIVES_DATA.
"""

import dataclasses

import numpy as np

from benchmarks.common.data_files import data_file
from benchmarks.common.grouping import places_within

HELD_OUT = 5  # One in so many of a user's interactions.
VALIDATION = 5
VALIDATION_USERS = 10_000


@dataclasses.dataclass
class Interactions:
    """Users and items, numbered from 0, of the interactions to learn from.

    Attributes:
      users: `[n]` int32, of each interaction.
      items: `[n]` int32.
      num_users: Users of the whole data set.
      num_items: Items of the whole data set, all of which are ranked.
      turn: `[n]` float64 or None; of a user's interactions those of the lowest are held
        out first. None: at random.
    """

    users: np.ndarray
    items: np.ndarray
    num_users: int
    num_items: int
    turn: np.ndarray | None = None

    def item_counts(self):
        """`[num_items]` int64: how often each item occurs."""
        return np.bincount(self.items, minlength=self.num_items)

    def matrix(self):
        """`[num_users, num_items]` sparse float32 of ones."""
        import scipy.sparse

        ones = np.ones(len(self.users), np.float32)
        shape = self.num_users, self.num_items
        return scipy.sparse.csr_matrix((ones, (self.users, self.items)), shape)

    def histories(self):
        """`teachers.Histories` of all users and items, by their numbers."""
        from tfrs_negatives import teachers

        users, items = np.arange(self.num_users), np.arange(self.num_items)
        return teachers.Histories(users, items, self.matrix())


@dataclasses.dataclass
class Split:
    """What is learned from, and what is to be found."""

    train: Interactions
    test_users: np.ndarray
    test_items: np.ndarray

    def __post_init__(self):
        width = self.train.num_items
        train = self.train.users.astype(np.int64) * width + self.train.items
        test = self.test_users.astype(np.int64) * width + self.test_items
        if np.isin(test, train).any():
            raise ValueError("A held-out interaction is among those of training.")

    def validation(self):
        """Training alone, a fifth of each user's interactions held out of it.

        In the same way as the test's: in time, or at random. Rounded up, as Gowalla's
        own, and none of users with fewer than three. What is to be found is that of
        10,000 users at most, drawn at random: a search measures often.
        """
        sizes = np.bincount(self.train.users, minlength=self.train.num_users)
        wanted = np.where(sizes >= 3, -(-sizes // VALIDATION), 0)
        rng = np.random.default_rng(0)
        turn = self.train.turn
        if turn is None:
            turn = rng.random(len(self.train.users))
        split = _split(self.train, wanted, turn)
        measured = rng.permutation(np.flatnonzero(wanted))[:VALIDATION_USERS]
        kept = np.isin(split.test_users, measured)
        return Split(split.train, split.test_users[kept], split.test_items[kept])


def load(name):
    """Returns the `Split` with this name."""
    if name in ("gowalla", "yelp18"):
        return _light_gcn(f"{name}.npz")
    return {"movietweetings": _movietweetings, "ml1m": _ml1m}[name]()


def _light_gcn(name):
    with np.load(data_file(name)) as file:
        data = {name: file[name].astype(np.int32) for name in file}
    num_users = 1 + max(data["train_user"].max(), data["test_user"].max())
    num_items = 1 + max(data["train_item"].max(), data["test_item"].max())
    train = Interactions(
        data["train_user"], data["train_item"], int(num_users), int(num_items)
    )
    return Split(train, data["test_user"], data["test_item"])


def _movietweetings():
    import pandas as pd

    table = pd.read_parquet(data_file("movietweetings_142k.parquet"))
    table["turn"] = -table["t"].astype(np.float64)
    every = _numbered(table.drop_duplicates(["user", "item"]))
    return _split(every, _fifth(every), every.turn)


def _ml1m():
    import pandas as pd

    table = pd.read_parquet(data_file("ml1m_no_timestamps.parquet"))
    every = _numbered(table.drop_duplicates(["user", "item"]))
    turn = np.random.default_rng(0).random(len(every.users))
    return _split(every, _fifth(every), turn)


def _numbered(table):
    """`Interactions` of a table's rows."""
    users, items = (
        np.unique(table[name], return_inverse=True)[1].astype(np.int32)
        for name in ("user", "item")
    )
    turn = table["turn"].to_numpy() if "turn" in table else None
    return Interactions(users, items, int(users.max()) + 1, int(items.max()) + 1, turn)


def _fifth(every):
    """How many of each user's interactions are held out."""
    return np.bincount(every.users) // HELD_OUT


def _split(every, wanted, turn):
    """Holds out as many of each user's interactions as wanted, of the lowest `turn`."""
    order = np.lexsort([turn, every.users])
    users = every.users[order]
    held_out = np.zeros(len(users), bool)
    held_out[order] = places_within(users) < wanted[users]
    train = dataclasses.replace(
        every,
        users=every.users[~held_out],
        items=every.items[~held_out],
        turn=None if every.turn is None else every.turn[~held_out],
    )
    return Split(train, every.users[held_out], every.items[held_out])
