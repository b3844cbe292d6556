"""Memory follows the text of ids, not their number times the longest."""

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

NUM_ROWS = 40_000
LONG = "x" * 8_000


@pytest.mark.slow(reason="ids of many megabytes, in a process of its own")
def test_one_long_id_costs_its_length(tmp_path):
    """As fixed-width strings it would be 1.2 GiB a column."""
    user = [f"u{row % 997}" for row in range(NUM_ROWS)]
    item = [LONG if row == 7 else f"i{row % 97}" for row in range(NUM_ROWS)]
    table = pa.table({"user": user, "item": item})
    csv.write_csv(table, tmp_path / "one.csv")
    pq.write_table(table, tmp_path / "one.parquet")
    # The same text in every second row is in the file once: 153 MiB if spelt out.
    item = [LONG if row % 2 else "i" for row in range(NUM_ROWS)]
    pq.write_table(pa.table({"user": user, "item": item}), tmp_path / "many.parquet")
    csv.write_csv(table.slice(0, 9), tmp_path / "small.csv")
    script = __file__.replace("test_reader_memory", "reader_memory")
    names = ("small.csv", "one.csv", "one.parquet", "many.parquet")
    result = subprocess.run(
        [sys.executable, script, *(tmp_path / name for name in names)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    rows, growth = result.stdout.split()
    assert int(rows) == 3 * NUM_ROWS
    assert float(growth) < 250
