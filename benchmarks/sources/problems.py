"""Retrieval problems on public data: training rows, towers, and test queries.

Gowalla (`gowalla.npz`, the split of LightGCN, He et al. 2020): a query is a user,
relevant are the user's held-out items, and items that the user has in training are
not ranked. Diginetica (`diginetica.npz`, CIKM Cup 2016): a query is what a session
has clicked so far, relevant is its next click, and nothing is left out. Online Retail
(`online_retail.parquet`, UCI, CC BY 4.0): a query is a customer with two invoices or
more, relevant is what the last one has that earlier ones have not; what they have is
not ranked. MovieLens 100K (TFDS, GroupLens): a query is a user, relevant are the last
ten movies that the user rated, and those rated before are not ranked. `Histories` puts
the mean of a user's last items in the place of the user.
"""

import os
import pathlib

import numpy as np
import tensorflow as tf

from tfrs_negatives._keras import keras

HELD_OUT = 10  # Ratings of each MovieLens user.
SECONDS_A_DAY = 86400
TAIL_SHARE = 0.8  # Of items, the least popular ones: those outside the head of a fifth.
LAST_CLICKS = 10


def load(name):
    """Returns the problem with this name."""
    folder = pathlib.Path(os.environ.get("TFRS_NEGATIVES_DATA", "../shared/data"))
    if name == "movielens":
        import tensorflow_datasets as tfds

        ratings = tfds.load(
            "movielens/100k-ratings",
            split="train",
            data_dir=folder / "tfds",
            download=False,
        )
        ratings = ratings.map(lambda row: {c: row[c] for c in MovieLens.columns})
        return MovieLens(ratings.batch(1_000_000).get_single_element())
    path = folder / (f"{name}.parquet" if name == "online_retail" else f"{name}.npz")
    if not path.exists():
        raise SystemExit(f"{path} is missing: set TFRS_NEGATIVES_DATA to its folder.")
    if name == "online_retail":
        import pandas as pd

        return OnlineRetail(pd.read_parquet(path))
    return {"gowalla": Gowalla, "diginetica": Diginetica}[name](dict(np.load(path)))


def dense_lookup(table, ids):
    """Rows of a table whose gradient is dense, as Adam moves every row anyway."""
    return tf.gather(table * 1.0, ids)


class Table(keras.layers.Layer):
    """Embeddings of ids, of unit length.

    Args:
      num_ids: Rows of the table.
      width: Numbers a row.
      lookup: `tf.gather` for an optimiser that moves only the rows it finds.
    """

    def __init__(self, num_ids, width, lookup=dense_lookup):
        super().__init__()
        self.lookup = lookup
        initializer = keras.initializers.RandomUniform(-0.05, 0.05)
        self.table = self.add_weight(
            name="table", shape=[num_ids, width], initializer=initializer
        )

    def call(self, ids):
        return tf.math.l2_normalize(self.lookup(self.table, ids), axis=-1)


class History(Table):
    """The mean of a session's last clicks, padded with -1."""

    def call(self, ids):
        clicked = tf.cast(ids >= 0, tf.float32)[..., tf.newaxis]
        embeddings = self.lookup(self.table, tf.maximum(ids, 0)) * clicked
        return tf.math.l2_normalize(tf.reduce_sum(embeddings, axis=1), axis=-1)


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


class Gowalla(Users):
    epochs = 9

    def __init__(self, data):
        rows = {"user": data["train_user"], "item": data["train_item"]}
        super().__init__(rows, data["test_user"], data["test_item"])


class OnlineRetail(Users):
    epochs = 20

    def __init__(self, frame):
        frame = frame.drop_duplicates(["request", "item"])
        columns = {
            name: frame[name].factorize()[0] for name in ("user", "item", "request")
        }
        time = frame["t"].to_numpy()
        num_requests = columns["request"].max() + 1
        user_of = np.zeros(num_requests, int)
        user_of[columns["request"]] = columns["user"]
        started = np.full(num_requests, np.iinfo(time.dtype).max)
        np.minimum.at(started, columns["request"], time)
        order = np.lexsort([started, user_of])
        is_last = np.append(user_of[order][1:] != user_of[order][:-1], True)
        is_only = is_last & np.append(True, is_last[:-1])
        held_out = np.zeros(num_requests, bool)
        held_out[order[is_last & ~is_only]] = True
        in_test = held_out[columns["request"]]
        rows = {name: column[~in_test] for name, column in columns.items()}
        pairs = columns["user"] * (columns["item"].max() + 1) + columns["item"]
        in_test &= ~np.isin(pairs, pairs[~in_test])
        super().__init__(rows, columns["user"][in_test], columns["item"][in_test])


class MovieLens(Users):
    epochs = 20
    columns = ("user_id", "movie_id", "timestamp")

    def __init__(self, ratings):
        columns = {
            name: np.unique(ratings[source].numpy(), return_inverse=True)[1]
            for name, source in (("user", "user_id"), ("item", "movie_id"))
        }
        time = ratings["timestamp"].numpy()
        days = np.stack([columns["user"], time // SECONDS_A_DAY])
        columns["request"] = np.unique(days, axis=1, return_inverse=True)[1].ravel()
        order = np.lexsort([time, columns["user"]])
        columns = {name: column[order] for name, column in columns.items()}
        sizes = np.bincount(columns["user"])
        in_test = np.arange(len(order)) >= np.repeat(np.cumsum(sizes) - HELD_OUT, sizes)
        rows = {name: column[~in_test] for name, column in columns.items()}
        super().__init__(rows, columns["user"][in_test], columns["item"][in_test])


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


class Diginetica:
    epochs = 5
    mined_by = "item"

    def __init__(self, data):
        self.num_items = int(data["train_items"].max()) + 1
        histories, items, sessions = clicks_before(
            data["train_items"], data["train_len"]
        )
        self.rows = {"history": histories, "item": items, "session": sessions}
        ends = np.cumsum(data["test_prefix_len"])
        starts = ends - data["test_prefix_len"]
        self._prefixes = last_clicks(data["test_prefix_items"], starts, ends)
        self._targets = data["test_target"]

    def query_tower(self, width, lookup=dense_lookup):
        return History(self.num_items, width, lookup)

    def query_features(self, batch):
        return batch["history"]

    def keys(self, batch):
        return batch["session"]

    def mining_queries(self):
        return None, np.arange(self.num_items)

    def test_blocks(self, size, part=slice(None)):
        queries = np.arange(len(self._targets))[part]
        for start in range(0, len(queries), size):
            places = queries[start : start + size]
            nothing = [np.zeros(0, int)] * len(places)
            yield self._prefixes[places], nothing, self._targets[places, None]


def by_group(num_groups, groups, values):
    order = np.argsort(groups, kind="stable")
    ends = np.cumsum(np.bincount(groups, minlength=num_groups))
    return np.split(values[order], ends[:-1])


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


def evaluate(
    problem, query_tower, item_embeddings, tops=(20, 100), block=1024, part=slice(None)
):
    """Mean recall over a part of the queries, and over relevant items of the tail.

    Returns:
      {"recall_at_20": ..., "tail_recall_at_20": ..., ...}; the tail's is the share of
      all relevant tail items that are found.
    """
    counts = np.bincount(problem.rows["item"], minlength=problem.num_items)
    tail = np.zeros(problem.num_items, bool)
    tail[np.argsort(counts, kind="stable")[: int(TAIL_SHARE * len(counts))]] = True
    recalls = {k: [] for k in tops}
    found_of_tail, all_of_tail = dict.fromkeys(tops, 0), 0
    for features, seen, relevant in problem.test_blocks(block, part):
        embeddings = query_tower(tf.constant(features)).numpy()
        scores = embeddings @ item_embeddings.T
        for row, items in enumerate(seen):
            scores[row, items] = -np.inf
        best = tf.math.top_k(scores, max(tops)).indices.numpy()
        is_relevant = np.zeros(scores.shape, bool)
        for row, items in enumerate(relevant):
            is_relevant[row, items] = True
        all_of_tail += is_relevant[:, tail].sum()
        sizes = is_relevant.sum(axis=1)
        hits = np.take_along_axis(is_relevant, best, axis=1)
        for k in tops:
            recalls[k].append(hits[:, :k].sum(axis=1) / sizes)
            found_of_tail[k] += (hits & tail[best])[:, :k].sum()
    figures = {f"recall_at_{k}": np.concatenate(recalls[k]).mean() for k in tops}
    for k in tops:
        figures[f"tail_recall_at_{k}"] = found_of_tail[k] / all_of_tail
    return {name: float(value) for name, value in figures.items()}
