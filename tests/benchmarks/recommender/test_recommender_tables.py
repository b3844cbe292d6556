"""The tables of the default model: what is averaged, and what sets are made of."""

import numpy as np
import pytest

from benchmarks.common.data_files import data_file
from benchmarks.recommender import page, sets


def test_a_table_has_means_and_deviations_over_seeds():
    rows = []
    for model, seed, recall in (
        ("ours", "0", "0.5"),
        ("ours", "1", "0.25"),
        ("EASE^R", "0", "0.25"),
        ("EASE^R", "1", "0.25"),
    ):
        figures = dict.fromkeys(page.COLUMNS.values(), "")
        rows.append({"model": model, "seed": seed, **figures, "recall_50": recall})
    lines = page.table(rows).splitlines()
    assert [line.split(" | ")[1] for line in lines[2:]] == ["0.250", "0.375 ± 0.177"]
    assert lines[2].startswith("| EASE^R") and lines[3].startswith("| ours")
    assert "none" in lines[2]  # What has no figure.


@pytest.mark.parametrize("name", ["gowalla", "yelp18"])
def test_a_published_split_is_given_whole(name, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    try:
        path = data_file(f"{name}.npz")
    except SystemExit as missing:
        pytest.skip(str(missing))
    _, train, _, test = sets.words(name, tmp_path)
    with np.load(path) as columns:
        for file, part in ((train, "train"), (test, "test")):
            table = pq.read_table(file)
            for role in ("user", "item"):
                found = table.column(role).to_numpy()
                np.testing.assert_array_equal(found, columns[f"{part}_{role}"])
