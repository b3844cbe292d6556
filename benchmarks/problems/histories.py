"""Queries that are the mean of what a user, or a session, had last."""

import numpy as np

from benchmarks.problems.towers import History, dense_lookup
from benchmarks.problems.users import Users

LAST_CLICKS = 10


class Histories(Users):
    """A query is the mean of the last items before the row's, in the rows' order.

    Args:
      users: A `Users` problem, whose rows of a user are in order of time. Each user's
        first row, before which there is nothing, is left out of training.
    """

    def __init__(self, users):
        order = np.argsort(users.rows["user"], kind="stable")
        rows = {name: column[order] for name, column in users.rows.items()}
        sizes = np.bincount(rows["user"], minlength=users.num_users)
        ends = np.cumsum(sizes)
        starts, here = np.repeat(ends - sizes, sizes), np.arange(len(order))
        has_history = here > starts
        self.__dict__.update(vars(users))
        self._histories = last_clicks(rows["item"], ends - sizes, ends)
        rows["history"] = last_clicks(rows["item"], starts, here)
        self.rows = {name: column[has_history] for name, column in rows.items()}

    def query_tower(self, width, lookup=dense_lookup):
        return History(self.num_items, width, lookup)

    def query_features(self, batch):
        return batch["history"]

    def test_features(self, users):
        return self._histories[users]

    def mining_queries(self):
        return self._histories, self._seen


def clicks_before(items, lengths):
    """Every click but a session's first, with the clicks before it."""
    sessions = np.repeat(np.arange(len(lengths)), lengths)
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    here = np.arange(len(items))
    rows = here[here > first]
    return last_clicks(items, first[rows], rows), items[rows], sessions[rows]


def last_clicks(items, starts, ends):
    """[n, LAST_CLICKS] int: items[start:end], the newest first, -1 behind."""
    places = ends[:, None] - 1 - np.arange(LAST_CLICKS)
    return np.where(places >= starts[:, None], items[places], -1).astype(np.int32)
