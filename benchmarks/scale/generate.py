"""Writes a table of interactions of any size to a Parquet file.

    python -m benchmarks.scale.generate table.parquet --rows 100_000_000

Rows are in order of time, as logs are, ten in three seconds; some users have more than
others. Four in five items are drawn by a power law of their rank; the fifth goes
through the catalogue, so that a table of five rows an item or more has all of them. One
part is in memory at a time.
"""

import argparse
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

START = 1_600_000_000
SECONDS_A_ROW = 0.3
PART = 1_000_000
EVERY = 5
# A prime above every number of items that is asked for: multiples of it visit all.
STRIDE = 2_147_483_647


class PowerLaw:
    """Draws ranks 0 to N - 1 with probability in proportion to 1 / (rank + 1).

    By inverting the sum of 1 / x as if it were its integral: off by a few percent for
    the first ranks, and no table of N numbers.
    """

    def __init__(self, num):
        self._num = num

    def draw(self, rng, num_draws):
        ranks = np.exp(rng.random(num_draws) * np.log(self._num + 1)) - 1
        return np.minimum(ranks.astype(np.int64), self._num - 1)


def scattered(ranks, num):
    """One to one: ids whose order says nothing of how popular they are."""
    return (ranks * STRIDE) % num


def write(path, num_rows, num_users, num_items, seed=0):
    """Writes the table part by part, each a row group."""
    if num_items % STRIDE == 0:
        raise ValueError(f"The number of items is a multiple of {STRIDE}.")
    rng = np.random.default_rng(seed)
    popularity = PowerLaw(num_items)
    schema = pa.schema(
        [("user", pa.int64()), ("item", pa.int64()), ("time", pa.int64())]
    )
    with pq.ParquetWriter(path, schema, compression="snappy") as writer:
        for start in range(0, num_rows, PART):
            row = np.arange(start, min(start + PART, num_rows))
            # Users differ in how active they are, but not as far as items.
            rank = (rng.random(len(row)) ** 1.5 * num_users).astype(np.int64)
            user = scattered(rank, num_users)
            item = popularity.draw(rng, len(row))
            turn = row % EVERY == 0
            item[turn] = row[turn] // EVERY % num_items
            columns = {
                "user": user,
                "item": scattered(item, num_items),
                "time": START + (row * SECONDS_A_ROW).astype(np.int64),
            }
            writer.write_table(pa.table(columns, schema=schema))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--users", type=int, default=2_000_000)
    parser.add_argument("--items", type=int, default=10_000_000)
    arguments = parser.parse_args()
    write(arguments.path, arguments.rows, arguments.users, arguments.items)


if __name__ == "__main__":
    main()
