"""Changes a live index without end, and notes what it asks for and what was done.

    python live_writer.py DIRECTORY NOTES SEED

Three threads have ids of their own. Before a change and after it each appends a line to
the notes, which outlive the process.
"""

import json
import os
import random
import sys
import threading

import numpy as np

from tfrs_negatives.index import LiveIndex

THREADS, IDS, WIDTH = 3, 120, 4


def columns(change):
    """What a change says of each of its items."""
    seed, size = change["seed"], len(change["ids"])
    vectors = np.random.default_rng(seed).normal(size=(size, WIDTH))
    names = [f"{seed} {each}" for each in change["ids"]]
    return vectors.astype(np.float32), {"title": names}, {"seed": [seed] * size}


def change_for_ever(index, notes, thread, seed):
    rng = random.Random(seed * THREADS + thread)
    own = range(thread, IDS, THREADS)

    def note(**what):
        line = json.dumps({"thread": thread, **what}) + "\n"
        # In one piece: other threads write here too.
        os.write(notes, line.encode())

    while True:
        change = {
            "seed": rng.randrange(2**40),
            "ids": rng.sample(own, rng.choice([1, 1, 5, 30])),
            "is_delete": rng.random() < 0.3,
        }
        note(asks=change)
        if change["is_delete"]:
            index.delete(change["ids"])
        else:
            index.upsert(change["ids"], *columns(change))
        note(done=change["seed"])
        if rng.random() < 0.02:
            index.compact()


def main(path, notes, seed):
    index = LiveIndex.open(path)
    notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for thread in range(THREADS):
        arguments = (index, notes, thread, int(seed))
        threading.Thread(target=change_for_ever, args=arguments).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
