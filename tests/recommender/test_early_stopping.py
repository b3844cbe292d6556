"""Early stopping: what it measures, keeps and when it stops."""

import numpy as np
import pytest

from tfrs_negatives._keras import keras
from tfrs_negatives.recommender import early_stopping
from tfrs_negatives.recommender.early_stopping import (
    EarlyStopping,
    gains,
    standard_error,
)
from tfrs_negatives.recommender.held_out_pairs import HeldOut


def test_gains():
    ranks = np.array([1, 3, 0, 100, 101, 7])
    wanted = [1, 1 / 2, 0, 1 / np.log2(101), 0, 1 / 3]
    assert gains(ranks) == pytest.approx(wanted)


def test_standard_error_is_that_of_users():
    """Against the spread of means over users drawn anew; 5% are five deviations."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 6, 400)
    users = np.repeat(np.arange(400), sizes)
    values = np.repeat(rng.normal(size=400), sizes) + 0.3 * rng.normal(size=len(users))
    sums = np.bincount(users, values)
    means = []
    for _ in range(5000):
        drawn = rng.integers(0, 400, 400)
        means.append(sums[drawn].sum() / sizes[drawn].sum())
    assert standard_error(values, users) == pytest.approx(np.std(means), rel=0.05)
    # Pairs as if they were independent: far off.
    assert standard_error(values, np.arange(len(users))) < 0.75 * np.std(means)


# Of two users and three items; held out are item 1 of user 0, item 2 of user 1.
PAIRS = HeldOut(
    users=np.array([0, 1]),
    user=np.array([0, 1]),
    item=np.array([1, 2]),
    seen_user=np.array([0]),
    seen_item=np.array([0]),
    num_users=2,
    num_pairs=2,
    num_unknown=0,
)


def fit(values, patience, epochs=10):
    """Epochs made, the model's weight at the end, the callback.

    Args:
      values: Item embeddings' quality by epoch: the higher, the better the ranks.
    """
    model = keras.Sequential([keras.layers.Dense(1, use_bias=False)])
    model.build([None, 1])
    model.compile("sgd", "mse")
    made = []

    def embed():
        made.append(values[len(made)])
        model.set_weights([np.full([1, 1], made[-1])])
        # User 1's own item scores 0, the others what this epoch makes of them.
        scores = np.array([[0.0, 1.0, 0.0], [-made[-1], 0.5 - made[-1], 0.0]])
        return np.eye(2, dtype=np.float32), scores.T.astype(np.float32)

    stopping = EarlyStopping(embed, PAIRS, patience)
    data = np.zeros([4, 1], np.float32)
    model.fit(data, data, epochs=epochs, verbose=0, callbacks=[stopping])
    return len(made), float(model.get_weights()[0][0, 0]), stopping


def test_the_chosen_epochs_weights_are_kept():
    # Ranks of user 1's item: 3, 2, 1, 1, 2, 3, 2.
    values = [-1.0, 0.25, 0.9, 0.8, 0.25, -1.0, 0.25, 2.0]
    made, weight, stopping = fit(values, patience=3)
    assert stopping.chosen_epoch == 4  # The last of the best.
    assert made == 7  # Three more that are worse.
    assert weight == pytest.approx(0.8)
    wanted = [(1 + 1 / np.log2(1 + rank)) / 2 for rank in (3, 2, 1, 1, 2, 3, 2)]
    assert stopping.curve == pytest.approx(wanted)


def ranks_of(lost, gained):
    """Those of 40 pairs: of the best epoch's 30 hits some are lost, others gained."""
    places = np.arange(40)
    is_hit = (places >= lost) & (places < 30 + gained)
    return np.where(is_hit, 7, 0)


def test_a_later_epoch_within_a_standard_error_is_chosen(monkeypatch):
    """Of pairs that are lost and gained alike, the difference is about as uncertain as
    the root of their number: 2 to 1 is a loss of 1 by 1.7, 3 to 0 one of 3 by 1.7.
    """
    changes = [(3, 0), (0, 0), (2, 1), (3, 0), (2, 1), (5, 0), (6, 0)]
    ranks = [ranks_of(*change) for change in changes]
    stopping, model = stopping_on(ranks, 5, monkeypatch)
    chosen = []
    for epoch in range(7):
        stopping.on_epoch_end(epoch)
        chosen.append(stopping.chosen_epoch)
    assert chosen == [1, 2, 3, 3, 5, 5, 5]
    assert not model.stop_training


def test_a_drift_of_small_losses_ends_at_the_best(monkeypatch):
    """Losses are counted from the best epoch, not from the one before."""
    ranks = [ranks_of(lost, gained=min(lost, 1)) for lost in (0, 2, 4, 6, 8)]
    stopping, model = stopping_on(ranks, 3, monkeypatch)
    for epoch in range(5):
        stopping.on_epoch_end(epoch)
    assert stopping.chosen_epoch == 2 and model.stop_training


def stopping_on(ranks, patience, monkeypatch):
    """A callback for 40 users of one pair each, whose ranks by epoch are given."""
    following = iter(ranks)
    monkeypatch.setattr(
        early_stopping, "held_out_ranks", lambda *_: np.asarray(next(following))
    )
    users = np.arange(40)
    pairs = HeldOut(users, users, users, users, users, 40, 40, 0)
    stopping = EarlyStopping(lambda: (np.eye(2), np.eye(2)), pairs, patience)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.build([None, 1])
    model.stop_training = False
    stopping.set_model(model)
    return stopping, model


def test_without_a_worse_epoch_all_are_made():
    made, weight, stopping = fit([-1.0, 0.25, 0.9], patience=1, epochs=3)
    assert (made, stopping.chosen_epoch) == (3, 3)
    assert weight == pytest.approx(0.9)


def test_what_diverges_stops():
    made, _, stopping = fit([np.nan, 1.0], patience=5, epochs=4)
    assert (made, stopping.chosen_epoch, stopping.curve) == (1, 0, [])
