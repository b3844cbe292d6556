"""The same list for everybody: items by their number of interactions."""

import numpy as np

from benchmarks.quality.rankers import Scores


def fit(train, setting, seed):
    # Places, not counts: equal counts would tie.
    places = np.empty(train.num_items, np.float32)
    places[np.argsort(train.item_counts(), kind="stable")] = np.arange(train.num_items)
    return Scores(lambda users: np.broadcast_to(places, (len(users), len(places))))
