"""In-batch false-negative rates against loops."""

import numpy as np
import pytest

from tfrs_negatives.cli import batches, false_negatives
from tfrs_negatives.cli.split import Split


def make_split(seed=0, num_rows=90, shared_requests=False):
    rng = np.random.default_rng(seed)
    user = rng.integers(0, 8, num_rows)
    request = user * 3 + rng.integers(0, 3, num_rows)
    if shared_requests:
        request = rng.integers(0, 9, num_rows)
    item = rng.integers(0, 15, num_rows)
    nothing = np.zeros(0, np.int64)
    return Split(
        np.arange(8), np.arange(15), None, user, item, request, nothing, nothing
    )


def oracle(split, size, seed, keys):
    known = set(zip(split.user.tolist(), split.item.tolist(), strict=True))
    counts = {"pairs": 0, "false": 0, "kept": 0, "kept false": 0}
    for rows in batches.request_batches(split, size, seed, epoch=0):
        for i in rows:
            for k in rows:
                if i == k:
                    continue
                false = (int(split.user[i]), int(split.item[k])) in known
                masked = split.item[i] == split.item[k] or any(
                    getattr(split, key)[i] == getattr(split, key)[k] for key in keys
                )
                counts["pairs"] += 1
                counts["false"] += false
                counts["kept"] += not masked
                counts["kept false"] += false and not masked
    return (
        counts["false"] / counts["pairs"],
        counts["kept false"] / counts["kept"],
    )


@pytest.mark.parametrize("keys", [("user",), ("user", "request")])
def test_rates_equal_loops(keys):
    split = make_split(shared_requests=len(keys) == 2)
    found = false_negatives.false_negative_rates(split, 16, seed=2, keys=keys)
    expected = oracle(split, 16, 2, keys)
    assert found == pytest.approx(expected)
    assert 0 < expected[1] < expected[0]


def test_a_sample_of_many_batches_is_spread_over_them(monkeypatch):
    split = make_split(num_rows=90)
    asked = []

    def recorded(user, item, request, known):
        asked.append(user)
        zeros = np.zeros(len(user), int)
        return {"none": (zeros, zeros + 3), "keys": (zeros, zeros + 3)}

    monkeypatch.setattr(false_negatives, "count_pairs", recorded)
    monkeypatch.setattr(false_negatives, "_NUM_BATCHES", 4)
    before, after = false_negatives.false_negative_rates(split, 10, 0, ("user",))
    made = batches.request_batches(split, 10, 0, epoch=0)
    np.testing.assert_array_equal(asked, [split.user[r] for r in made[0:8:2]])
    assert after == before == pytest.approx(3 / 9)


def test_no_pair_left():
    ones = np.zeros(4, np.int64)
    split = Split(
        np.arange(2), np.arange(2), None, ones, np.arange(4) % 2, ones, ones, ones
    )
    assert false_negatives.false_negative_rates(split, 4, 0, ("user",)) == (1.0, 0.0)
