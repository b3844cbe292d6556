"""Prints the peak in MiB of a process that splits argv[1] and reads an epoch of it."""

import pathlib
import sys
import tempfile

from tfrs_negatives.data import row_buckets, table_sources
from tfrs_negatives.recommender import time_split, training_batches

row_buckets.HELD_ROWS = row_buckets.WINDOW_ROWS = 100_000
named = {"user": "user", "item": "item", "time": "time"}
with tempfile.TemporaryDirectory() as folder:
    parts = table_sources.parts_of_file(sys.argv[1], named)
    split = time_split.split(parts, folder, evaluated_users=100)
    rows = 0
    for batch in training_batches.batches(split.training.rows, 1024, seed=0, epoch=0):
        rows += len(batch)
    assert rows == len(split.training.rows)
# Of this process alone: what `resource` says begins with the peak of its parent.
status = pathlib.Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
