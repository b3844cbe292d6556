"""What the benchmarks of indexes search: a trained model, and a million items."""

import numpy as np

from benchmarks.common.clusters import clusters
from benchmarks.problems import data_sets, id_towers

NUM_QUERIES = 3_000


def gowalla(cache):
    """Candidates `[40,981, 64]` and queries of a two-tower model of Gowalla.

    The model is that of `benchmarks.log_q.gowalla` with log q learned from the
    stream, seed 0, nine epochs. It is trained when `cache` does not hold it.
    """
    path = cache / "gowalla_towers.npz"
    if not path.exists():
        from tfrs_negatives.layers import StreamingFrequency

        rows = data_sets.load("gowalla").rows
        towers = id_towers.train(
            rows["user"], rows["item"], StreamingFrequency(), seed=0, epochs=9
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, queries=towers[0], candidates=towers[1])
    towers = np.load(path)
    rows = np.random.default_rng(0).permutation(len(towers["queries"]))[:NUM_QUERIES]
    return towers["candidates"], towers["queries"][rows]


def load(name, cache):
    """Candidates and queries, float32, by name."""
    if name == "gowalla":
        return gowalla(cache)
    sizes = {"thousand": 1_000, "million": 1_000_000}
    return clusters(sizes[name], NUM_QUERIES)
