"""Early stopping: what it measures, keeps and when it stops."""

import numpy as np
import pytest

from tfrs_negatives._keras import keras
from tfrs_negatives.recommender.early_stopping import EarlyStopping, ndcg_of_pairs
from tfrs_negatives.recommender.held_out_pairs import HeldOut


def test_ndcg_of_pairs():
    ranks = np.array([1, 3, 0, 100, 101, 7])
    wanted = (1 + 1 / 2 + 1 / np.log2(101) + 1 / 3) / 6
    assert ndcg_of_pairs(ranks) == pytest.approx(wanted)


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


def test_the_best_epochs_weights_are_kept():
    # Ranks of user 1's item: 3, 2, 1, 1, 2, 3.
    made, weight, stopping = fit([-1.0, 0.25, 0.9, 0.8, 0.25, -1.0, 2.0], patience=3)
    assert stopping.best_epoch == 3  # The first of the best.
    assert made == 6  # Three more without a better one.
    assert weight == pytest.approx(0.9)
    wanted = [(1 + 1 / np.log2(1 + rank)) / 2 for rank in (3, 2, 1, 1, 2, 3)]
    assert stopping.curve == pytest.approx(wanted)


def test_without_a_worse_epoch_all_are_made():
    made, weight, stopping = fit([-1.0, 0.25, 0.9], patience=1, epochs=3)
    assert (made, stopping.best_epoch) == (3, 3)
    assert weight == pytest.approx(0.9)


def test_what_diverges_stops():
    made, _, stopping = fit([np.nan, 1.0], patience=5, epochs=4)
    assert (made, stopping.best_epoch, stopping.curve) == (1, 0, [])
