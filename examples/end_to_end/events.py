"""Generates raw events: who did what when, in files of a million rows.

Items belong to one of 50 kinds, and a user mostly takes items of one kind; within a
kind a few items are popular. One user in a thousand does a hundred times as much as
others, and a hundredth of the events comes twice, as logs have it.
"""

import argparse

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

KINDS = 50
FILE_ROWS = 1_000_000
START, DAYS = 1_700_000_000, 60


def events(number, rows, users, items):
    """The columns of one file; `number` is its seed and its place in time."""
    rng = np.random.default_rng(number)
    heavy = rng.random(rows) < 0.1
    user = np.where(
        heavy,
        rng.integers(0, max(1, users // 1000), rows),
        rng.integers(0, users, rows),
    )
    kind = np.where(rng.random(rows) < 0.8, user, rng.integers(0, KINDS, rows)) % KINDS
    place = (rng.zipf(1.2, rows) - 1) % max(1, items // KINDS)
    time = START + number * 86_400 + rng.integers(0, DAYS * 86_400, rows)
    columns = {"customer": user, "sku": kind + KINDS * place, "at": time}
    twice = rng.integers(0, rows, rows // 100)
    return {n: np.concatenate([c, c[twice]]) for n, c in columns.items()}


def write(folder, rows, users, items):
    """Writes the events, and tables of all users and all items that they have."""
    files, _ = fsspec.core.url_to_fs(folder)
    files.makedirs(files._strip_protocol(f"{folder}/events"), exist_ok=True)
    seen = {"customer": np.zeros(users, bool), "sku": np.zeros(items + KINDS, bool)}
    for number, start in enumerate(range(0, rows, FILE_ROWS)):
        columns = events(number, min(FILE_ROWS, rows - start), users, items)
        for name, ids in seen.items():
            ids[columns[name]] = True
        _write(f"{folder}/events/{number:05}.parquet", columns)
    for name, ids in seen.items():
        _write(f"{folder}/{name}.parquet", {name: np.flatnonzero(ids)})


def _write(path, columns):
    with fsspec.open(path, "wb") as file:
        pq.write_table(pa.table(columns), file, row_group_size=131_072)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    write(
        arguments.folder,
        arguments.rows,
        users=max(2000, arguments.rows // 50),
        items=max(1000, arguments.rows // 100),
    )
