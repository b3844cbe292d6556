"""Prints how many MiB a process grew by while it read the files argv[1:]."""

import resource
import sys

from tfrs_negatives import audit
from tfrs_negatives.data import interactions, stream_interactions


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read(path):
    table = interactions(path, title="item")
    rows = len(table)
    assert rows == len(audit.read_table(path, for_model=True))
    assert rows == sum(len(batch["user"]) for batch in stream_interactions(path))
    return rows


small, *paths = sys.argv[1:]
read(small)  # What reading takes once.
before = peak()
print(sum(map(read, paths)), peak() - before)
