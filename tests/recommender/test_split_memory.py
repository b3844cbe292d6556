"""Memory of a split and of an epoch follows users and items, not rows."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.mark.slow(reason="millions of rows, in processes of their own")
def test_ten_times_the_rows_cost_nothing(tmp_path):
    rng = np.random.default_rng(0)
    peaks = {}
    for num_rows in (500_000, 5_000_000):
        table = pa.table(
            {
                "user": rng.integers(0, 5_000, num_rows),
                "item": rng.integers(0, 2_000, num_rows),
                "time": np.arange(num_rows) * 10,
            }
        )
        path = tmp_path / f"{num_rows}.parquet"
        pq.write_table(table, path, row_group_size=100_000)
        script = __file__.replace("test_split_memory", "split_memory")
        result = subprocess.run(
            [sys.executable, script, path], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        peaks[num_rows] = float(result.stdout)
    # One int64 a row would be 34 MiB.
    assert peaks[5_000_000] - peaks[500_000] < 30
