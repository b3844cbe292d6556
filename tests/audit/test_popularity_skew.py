"""Measures of skew against their definitions."""

import numpy as np
import pytest

from tfrs_negatives.audit.popularity_skew import head_items, popularity


def test_gini_is_the_mean_difference_of_counts():
    item = np.repeat(np.arange(6), [1, 1, 2, 5, 9, 30])
    counts = np.bincount(item)
    differences = np.mean([[abs(a - b) for a in counts] for b in counts])
    found = popularity(np.bincount(item, minlength=6))
    assert found["gini"] == pytest.approx(differences / (2 * counts.mean()))
    # The head is ceil(.2 * 6) = 2 items, the top 1% one.
    assert found["top_1_percent_share"] == pytest.approx(30 / 48)
    assert found["tail_row_share"] == pytest.approx(9 / 48)
    assert found["tail_item_share"] == pytest.approx(4 / 6)


def test_equal_counts_have_no_skew():
    found = popularity(np.full(50, 3))
    assert found["gini"] == pytest.approx(0)
    np.testing.assert_allclose(found["curve"]["rows"], found["curve"]["items"])


def test_curve_holds_the_rows_of_the_least_popular():
    rng = np.random.default_rng(0)
    item = np.concatenate([np.arange(400), (400 * rng.random(3000) ** 3).astype(int)])
    counts = np.sort(np.bincount(item))
    found = popularity(np.bincount(item, minlength=400))["curve"]
    assert len(found["items"]) == 101
    for share, rows in zip(found["items"], found["rows"], strict=True):
        assert rows == pytest.approx(counts[: round(share * 400)].sum() / len(item))


def test_head_takes_the_first_of_equals():
    assert head_items(np.array([1, 2, 1, 2, 1])).tolist() == [
        False, True, False, False, False,
    ]  # fmt: skip
