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

import numpy as np

from benchmarks.common.data_files import data_file
from benchmarks.common.grouping import places_within
from benchmarks.problems.histories import clicks_before, last_clicks
from benchmarks.problems.towers import History, dense_lookup
from benchmarks.problems.users import Users

HELD_OUT = 10  # Ratings of each MovieLens user.
SECONDS_A_DAY = 86400


def load(name):
    """Returns the problem with this name."""
    if name == "movielens":
        import tensorflow_datasets as tfds

        ratings = tfds.load(
            "movielens/100k-ratings",
            split="train",
            data_dir=data_file("tfds"),
            download=False,
        )
        ratings = ratings.map(lambda row: {c: row[c] for c in MovieLens.columns})
        return MovieLens(ratings.batch(1_000_000).get_single_element())
    if name == "online_retail":
        import pandas as pd

        return OnlineRetail(pd.read_parquet(data_file(f"{name}.parquet")))
    problem = {"gowalla": Gowalla, "diginetica": Diginetica}[name]
    return problem(dict(np.load(data_file(f"{name}.npz"))))


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
        sizes = np.bincount(columns["user"])[columns["user"]]
        in_test = places_within(columns["user"]) >= sizes - HELD_OUT
        rows = {name: column[~in_test] for name, column in columns.items()}
        super().__init__(rows, columns["user"][in_test], columns["item"][in_test])


class Diginetica:
    """A query is what a session has clicked so far."""

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
