"""Batches, rates and probabilities of two towers with in-batch negatives.

All have an embedding of each user and item, of unit length, and Adam, whose rate falls
to zero along a cosine.
"""

import math

import numpy as np


def num_steps(train, setting):
    """Steps of all epochs; of each, the last incomplete batch is left out."""
    return setting["epochs"] * (len(train.users) // setting["batch"])


def batches(train, setting, seed):
    """Users and items of each step, shuffled anew in each epoch."""
    rng = np.random.default_rng(seed)
    size = setting["batch"]
    for epoch in range(setting["epochs"]):
        order = rng.permutation(len(train.users))
        for step in range(len(order) // size):
            rows = order[step * size : (step + 1) * size]
            yield train.users[rows], train.items[rows]
        print(f"epoch {epoch + 1} of {setting['epochs']}", flush=True)


def rate(setting, step, steps):
    """The rate of Adam at a step, of `steps`."""
    return setting["rate"] * 0.5 * (1 + math.cos(math.pi * step / steps))


def probabilities(train):
    """`[num_items]` float32: that an interaction is of this item, positive."""
    counts = np.maximum(train.item_counts(), 1)
    return (counts / counts.sum()).astype(np.float32)
