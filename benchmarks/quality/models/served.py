"""A trained model's items in ScaNN indexes of several settings, against exact search.

`searches` names the settings of `index.ScaNN`, and `model` the module that trains.
Further figures of each index: "found", the share of the 20 best items that it finds,
and "queries per CPU second" in batches of 1,024. Every 30th user is a sample query for
a `recall_target`; these figures are those of the others.
"""

import time

import numpy as np
import tensorflow as tf

from benchmarks.quality.evaluate import TOP
from benchmarks.quality.rankers import Indexed
from benchmarks.quality.subjects import module_of
from tfrs_negatives import index

BATCH = 1024
SAMPLE = 30  # One user in so many.


def fit(train, setting, seed):
    own = "searches", "model"
    passed = {name: value for name, value in setting.items() if name not in own}
    return module_of(setting["model"]).fit(train, passed, seed)


def variants(factors, setting):
    users = factors.users.astype(np.float32)
    is_sample = np.arange(len(users)) % SAMPLE == 0
    queries = users[~is_sample]
    best = None
    for options in [None, *setting["searches"]]:
        if options is None:
            searcher = index.BruteForce(k=TOP).index(factors.items)
        else:
            samples = {}
            if "recall_target" in options:
                samples["sample_queries"] = users[is_sample]
            searcher = index.ScaNN(k=TOP, **options).index(factors.items, **samples)
        found, speed = answers(searcher, queries)
        best = found if best is None else best
        shared = [
            len(np.intersect1d(*rows)) / TOP for rows in zip(best, found, strict=True)
        ]
        others = {"found": np.mean(shared), "queries per CPU second": round(speed)}
        name = "exact" if options is None else describe(options)
        yield name, Indexed(users, searcher), others


def answers(searcher, queries):
    """`[Q, TOP]` ids, and queries per second of CPU time."""
    searcher(queries[:BATCH])  # The first call costs more.
    start = time.process_time()
    ids = [
        searcher(tf.constant(queries[place : place + BATCH]))[1].numpy()
        for place in range(0, len(queries), BATCH)
    ]
    return np.concatenate(ids), len(queries) / (time.process_time() - start)


def describe(options):
    return ", ".join(f"{name} {value}" for name, value in options.items()) or "defaults"
