"""Streams of requests for tests, and what is true of any batching of them."""

import numpy as np
import tensorflow as tf


def random_stream(seed, num_rows=3_000, interleaved=0, strings=False, largest=40):
    """Rows of requests: a dict of "request", "has_request", "row", "vector" arrays.

    Among the keys are negative numbers, or "".

    Args:
      seed: Of the random numbers.
      num_rows: How many rows.
      interleaved: How far rows are moved; 0: requests are contiguous.
      strings: Whether keys are strings.
      largest: Most rows of a request.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, largest + 1, num_rows)
    keys = rng.permutation(num_rows)[np.repeat(np.arange(num_rows), sizes)[:num_rows]]
    keys -= keys[len(keys) // 2]  # About half are negative, one is 0.
    distinct = np.unique(keys[keys != 0])
    without = rng.choice(distinct, max(len(distinct) // 20, 1), replace=False)
    if interleaved:
        keys = keys[
            np.argsort(np.arange(num_rows) + rng.uniform(0, interleaved, num_rows))
        ]
    named = np.array([b"" if k == 0 else b"key %d" % k for k in keys], object)
    return {
        "request": named if strings else keys,
        "has_request": ~np.isin(keys, without),
        "row": np.arange(num_rows),
        "vector": rng.normal(size=(num_rows, 2)).astype(np.float32),
    }


def key_list(stream):
    """The keys as a list in which rows without a key differ from all others."""
    has_key = stream.get("has_request", np.ones(len(stream["request"]), bool))
    columns = stream["request"].tolist(), has_key.tolist()
    return [
        key if has_key else ("none", place)
        for place, (key, has_key) in enumerate(zip(*columns, strict=True))
    ]


def read(dataset):
    """The batches of a dataset, as dicts of NumPy arrays."""
    return list(dataset.as_numpy_iterator())


def check_rows(batches, stream):
    """All rows came once, with their own features; returns their order."""
    order = np.concatenate([batch["row"] for batch in batches])
    assert sorted(order.tolist()) == stream["row"].tolist()
    for name, column in stream.items():
        came = np.concatenate([batch[name] for batch in batches])
        assert (came == column[order]).all()
    return order


def slices(stream, num=None):
    """The stream as a dataset of rows, or of batches of `num` rows."""
    dataset = tf.data.Dataset.from_tensor_slices(stream)
    return dataset if num is None else dataset.batch(num)


def context(num_pipelines, pipeline):
    """What `distribute_datasets_from_function` hands to one of several workers."""
    return tf.distribute.InputContext(num_pipelines, pipeline, num_pipelines)
