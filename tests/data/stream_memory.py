"""Prints how many MiB a process grew by while it streamed the file argv[1]."""

import resource
import sys

from tfrs_negatives.data import stream_interactions


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def stream(num_batches):
    rows = 0
    dataset = stream_interactions(sys.argv[1], title="title", batch_size=10_000)
    for batch in dataset.take(num_batches):
        rows += len(batch["title"])
    return rows


# What reading takes once, whatever the size of the file.
stream(20)
before = peak()
print(stream(-1), peak() - before)
