"""A trained model's items in ScaNN indexes of several settings, against exact search.

`searches` names the settings of `index.ScaNN`, and `model` the module that trains. The
notes of a row: the share of the 20 best items that the index finds, and queries per
second of CPU time in batches of 1,024.
"""

import importlib
import time

import numpy as np
import tensorflow as tf
from evaluate import TOP
from rankers import Indexed

from tfrs_negatives import index

BATCH = 1024


def variants(train, setting, seed):
    setting = dict(setting)
    searches, model = setting.pop("searches"), setting.pop("model")
    factors = importlib.import_module(model).fit(train, setting, seed)
    exact = index.BruteForce(k=TOP).index(factors.items)
    queries = factors.users.astype(np.float32)
    best, _ = answers(exact, queries)
    for options in [None, *searches]:
        searcher = exact
        if options is not None:
            samples = {}
            if "recall_target" in options:
                every = max(len(queries) // 1000, 1)
                samples["sample_queries"] = queries[::every]
            searcher = index.ScaNN(k=TOP, **options).index(factors.items, **samples)
        found, speed = answers(searcher, queries)
        shared = [
            len(np.intersect1d(*rows)) / TOP for rows in zip(best, found, strict=True)
        ]
        notes = f"found {np.mean(shared):.4f}; {speed:.0f} queries per CPU second"
        name = "exact" if options is None else describe(options)
        yield name, Indexed(factors.users, searcher, notes)


def answers(searcher, queries):
    """`[Q, TOP]` ids, and queries per second of CPU time."""
    searcher(queries[:BATCH])  # Traces.
    start = time.process_time()
    ids = [
        searcher(tf.constant(queries[place : place + BATCH]))[1].numpy()
        for place in range(0, len(queries), BATCH)
    ]
    return np.concatenate(ids), len(queries) / (time.process_time() - start)


def describe(options):
    return ", ".join(f"{name} {value}" for name, value in options.items()) or "defaults"
