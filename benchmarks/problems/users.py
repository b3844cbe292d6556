"""Problems whose queries are users."""

import numpy as np

from benchmarks.common.grouping import by_group
from benchmarks.problems.towers import Table, dense_lookup


class Users:
    """A query is a user, who has items in training and others held out.

    Args:
      rows: Columns "user", "item" and others of the training rows, ids from 0.
      test_user: [n], users of the held-out items.
      test_item: [n].
    """

    mined_by = "user"

    def __init__(self, rows, test_user, test_item):
        self.num_items = int(max(rows["item"].max(), test_item.max())) + 1
        self.num_users = int(max(rows["user"].max(), test_user.max())) + 1
        self.rows = rows
        self._seen = by_group(self.num_users, rows["user"], rows["item"])
        self._relevant = by_group(self.num_users, test_user, test_item)
        self._users = np.flatnonzero([len(items) for items in self._relevant])

    def query_tower(self, width, lookup=dense_lookup):
        return Table(self.num_users, width, lookup)

    def query_features(self, batch):
        return batch["user"]

    def keys(self, batch):
        return batch["user"]

    def mining_queries(self):
        """Features of the table's rows and what they are known to like."""
        return np.arange(self.num_users), self._seen

    def test_features(self, users):
        return users

    def test_blocks(self, size, part=slice(None)):
        """Query features, the items not ranked and the relevant ones."""
        queries = self._users[part]
        for start in range(0, len(queries), size):
            users = queries[start : start + size]
            yield (
                self.test_features(users),
                [self._seen[user] for user in users],
                [self._relevant[user] for user in users],
            )
