"""Prints by how many copies of its corpus a process grows over twenty refreshes.

A process of its own: what other tests leave in the allocator blurs the measurement.

    python refresh_memory.py BruteForce
"""

import ctypes
import gc
import resource
import sys

import numpy as np
import tensorflow as tf

from tfrs_negatives import index
from tfrs_negatives._keras import keras
from tfrs_negatives.callbacks import RefreshNegatives
from tfrs_negatives.samplers import Mined

ITEMS, WIDTH, ROWS = 20_000, 64, 500


def resident():
    """Bytes held, without what is free but not given back yet."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def main(index_class):
    tower = keras.layers.Embedding(ITEMS, WIDTH)
    ids = np.arange(ITEMS)
    rows = tf.data.Dataset.from_tensor_slices((ids, ids))
    callback = RefreshNegatives(
        Mined(ids, np.zeros([ROWS, 1], int), "row"),
        getattr(index, index_class)(),
        rows.batch(4096),
        tower,
        rows.take(ROWS).batch(100),
        tower,
        every_steps=1,
        num_negatives=50,
    )
    for step in range(15):
        callback.refresh(step)
    before = resident()
    for step in range(20):
        callback.refresh(step)
    print("copies:", (resident() - before) / (ITEMS * WIDTH * 4))


if __name__ == "__main__":
    main(sys.argv[1])
