"""The quality benchmark's held-out and validation interactions."""

import numpy as np
import pytest

from benchmarks.quality import splits


def test_held_out_interactions_are_not_of_training(split):
    train = split.train
    with pytest.raises(ValueError, match="among those of training"):
        splits.Split(train, train.users[:1], train.items[:1])


def test_validation_is_taken_from_training_alone(split):
    part = split.validation()
    pairs = sorted(zip(split.train.users, split.train.items, strict=True))
    kept = list(zip(part.train.users, part.train.items, strict=True))
    held_out = list(zip(part.test_users, part.test_items, strict=True))
    assert sorted(kept + held_out) == pairs
    sizes = np.bincount(split.train.users, minlength=60)
    wanted = np.where(sizes >= 3, np.ceil(sizes / 5), 0)
    np.testing.assert_array_equal(np.bincount(part.test_users, minlength=60), wanted)


def test_validation_follows_time_where_the_test_does():
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, 20, [2, 600]), axis=1).astype(np.int32)
    times = rng.permutation(pairs.shape[1])
    every = splits.Interactions(*pairs, 20, 20, turn=-times.astype(float))
    split = splits._split(every, splits._fifth(every), every.turn)
    part = split.validation()
    time_of = {(u, i): t for u, i, t in zip(*pairs, times, strict=True)}
    sizes = np.bincount(pairs[0])
    for user in range(20):
        of_user = [
            sorted(time_of[user, item] for item in items[users == user])
            for users, items in (
                (part.train.users, part.train.items),
                (part.test_users, part.test_items),
                (split.test_users, split.test_items),
            )
        ]
        assert sum(map(len, of_user)) == sizes[user] > 10
        assert len(of_user[2]) == sizes[user] // 5
        assert sum(of_user, []) == sorted(sum(of_user, []))


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("gowalla", [29858, 40981, 810128, 217242]),
        ("yelp18", [31668, 38048, 1237259, 324147]),
    ],
)
def test_published_splits_have_their_published_sizes(name, sizes, data_dir):
    """Table 2 of He et al., SIGIR 2020."""
    path = data_dir / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"needs {path}")
    split = splits.load(name)
    train = split.train
    found = [train.num_users, train.num_items, len(train.users), len(split.test_users)]
    assert found == sizes
