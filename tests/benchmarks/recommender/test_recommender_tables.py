"""The tables of the default model: what is averaged, and what sets are made of."""

import numpy as np
import pytest

from benchmarks.common.data_files import data_file
from benchmarks.recommender import page, sessions, sets


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
    assert lines[2].endswith("|  |  |  |  |")  # What has no figure.


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


def test_ranks_and_measures_of_sessions():
    item_ids = np.array([10, 20, 30])
    items = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    queries = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.5], [1.0, 0.0]])
    following = np.array([10, 20, 20, 25])
    # An equal score stands before; an item that was never trained is never found.
    found = sessions.ranks(queries, items, item_ids, following)
    assert found.tolist() == [2, 1, 3, np.inf]
    measures = sessions.measures(np.array([2, 1, 21, np.inf]))
    assert measures == {"p_20": 50.0, "mrr_20": 37.5}


def test_beginnings_of_sessions_that_stand_in_for_the_test(tmp_path):
    path = tmp_path / "sessions.npz"
    lengths = np.array([2] * 19 + [3])
    np.savez(
        path,
        train_len=lengths,
        train_items=np.arange(lengths.sum()),
        test_prefix_items=np.array([1, 2, 3]),
        test_prefix_len=np.array([1, 2]),
        test_target=np.array([2, 4]),
    )
    test = sessions.read(path, validation=False)
    assert test.beginnings.to_list() == [[1], [2, 3]]
    assert test.following.tolist() == [2, 4] and len(test.item) == 41
    validation = sessions.read(path, validation=True)
    assert validation.beginnings.to_list() == [[38], [38, 39]]
    assert validation.following.tolist() == [39, 40]
    assert validation.item.tolist() == list(range(38))
    assert validation.session.tolist() == [n for n in range(19) for _ in range(2)]
