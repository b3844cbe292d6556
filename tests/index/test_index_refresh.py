"""Many refreshes of a large index in one process."""

import gc

import numpy as np
import pytest
import tensorflow as tf
from index_oracles import clustered

from tfrs_negatives.index import BruteForce, ScaNN

NUM_ROWS, NUM_REFRESHES = 100_000, 20


def resident_mib():
    gc.collect()
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def best_rows(queries, candidates, k):
    return np.argsort(-queries @ candidates.T, axis=1, kind="stable")[:, :k]


@pytest.mark.slow(reason="twenty indexes of 100,000 rows")
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(BruteForce, id="BruteForce"),
        pytest.param(
            lambda: ScaNN(training_iterations=2), marks=pytest.mark.scann, id="ScaNN"
        ),
    ],
)
def test_twenty_refreshes_of_a_hundred_thousand_rows(make):
    corpora = [clustered(seed, NUM_ROWS) for seed in (0, 1)]
    queries = clustered(2, 32)
    truths = [best_rows(queries, corpus, 10) for corpus in corpora]
    # Ids tell which corpus an answer came from.
    ids = [np.arange(NUM_ROWS) + 10**6 * (1 + i) for i in range(2)]
    index = make().index(corpora[0], ids[0])
    query = tf.function(lambda q: index(q, k=10)[1])
    exclude = tf.function(lambda q, e: index.query_with_exclusions(q, e, k=5)[1])
    embeddings, resident = tf.constant(queries), []
    for refresh in range(NUM_REFRESHES):
        turn = (refresh + 1) % 2
        index.index(corpora[turn], ids[turn])
        found = query(embeddings).numpy() - 10**6 * (1 + turn)
        hits = [len(set(a) & set(b)) for a, b in zip(found, truths[turn], strict=True)]
        assert np.mean(hits) / 10 >= 0.9
        # Those excluded are the five best of now, not of some earlier corpus.
        known = tf.constant(found[:, :5] + 10**6 * (1 + turn))
        rest = exclude(embeddings, known).numpy()
        assert not (rest[:, :, None] == known.numpy()[:, None]).any()
        assert (rest // 10**6 == 1 + turn).all()
        resident.append(resident_mib())
    assert query.experimental_get_tracing_count() == 1
    assert exclude.experimental_get_tracing_count() == 1
    # A corpus takes 12 MiB. A leak of one per refresh would be 180 MiB over these 15,
    # of its ids alone 30 MiB.
    assert np.median(resident[-5:]) - np.median(resident[2:7]) < 20, resident
