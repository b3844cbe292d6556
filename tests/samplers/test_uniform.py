import numpy as np
import pytest
import tensorflow as tf
from sampler_oracles import check_distribution, collect, restricted, rows_dataset

from tfrs_negatives.samplers import Uniform


def test_features_of_an_item_stay_together():
    corpus = {"id": np.array(["a", "b", "c"]), "price": np.array([1.0, 2.0, 3.0])}
    for element in Uniform(corpus).attach(rows_dataset(), 5):
        assert sorted(element) == ["negatives", "negatives_log_q", "row"]
        negatives = element["negatives"]
        assert negatives["id"].shape == negatives["price"].shape == (5,)
        for name, price in zip(*negatives.values(), strict=True):
            assert {b"a": 1.0, b"b": 2.0, b"c": 3.0}[name.numpy()] == price


@pytest.mark.parametrize("per_row", [False, True])
def test_draws_are_uniform(per_row):
    sampler = Uniform(np.arange(50))
    dataset = sampler.attach(rows_dataset(100), 100, per_row=per_row, seed=5)
    draws, log_q = collect(dataset, "negatives", "negatives_log_q")
    check_distribution(draws, np.full(50, 1 / 50))
    np.testing.assert_allclose(log_q, np.log(1 / 50), rtol=1e-6)
    assert draws.shape == ((400, 100) if per_row else (100 * 100,))
    assert sampler.num_items == 50
    assert sampler.log_q == pytest.approx(np.log(1 / 50))


# Adjacent, at both ends, repeated, absent, unordered: all that may come.
EXCLUDED = [[3, 2, 4, 4], [0, 11, -1, -1], [99, 7, 7, 12], [-1, -1, -1, -1]]


def test_excluded_items_are_not_drawn():
    dataset = rows_dataset(10, 400, known=np.array(EXCLUDED))
    dataset = Uniform(np.arange(12)).attach(
        dataset, 5, per_row=True, exclude="known", seed=1
    )
    draws, log_q, mask = collect(
        dataset, "negatives", "negatives_log_q", "negatives_mask"
    )
    assert mask.all()
    for row, excluded in enumerate(EXCLUDED):
        q = restricted(np.ones(12), {e for e in excluded if 0 <= e < 12})
        check_distribution(draws[row::4], q)
        np.testing.assert_allclose(np.exp(log_q[row::4]), q[draws[row::4]], rtol=1e-6)


def test_excluded_items_are_named_by_id():
    ids = np.array(["x", "y", "z", ""])
    corpus = {"id": ids, "place": np.arange(4)}
    known = tf.ragged.constant([["z", "x"], [], ["", "absent"]])
    dataset = tf.data.Dataset.from_tensors({"known": known}).repeat(200)
    dataset = Uniform(corpus, id_feature="id").attach(
        dataset, 20, per_row=True, exclude="known"
    )
    for element in dataset.take(3):
        assert element["negatives"]["id"].shape == (3, 20)
    drawn = [element["negatives"]["place"].numpy() for element in dataset]
    for row, excluded in enumerate([{2, 0}, set(), {3}]):
        q = restricted(np.ones(4), excluded)
        check_distribution([d[row] for d in drawn], q)


def test_a_vector_of_excluded_items_is_one_a_row():
    dataset = rows_dataset(known=np.array([10, 20, 30, 10]))
    dataset = Uniform(np.array([30, 10, 20])).attach(
        dataset, 9, per_row=True, exclude="known"
    )
    draws, known = collect(dataset, "negatives", "known")
    assert not (draws == known[:, None]).any()
    assert {*draws[known == 10].tolist()[0]} == {20, 30}


def test_nothing_left_is_masked():
    known = np.array([[0, 1, 2], [0, 1, -1]])
    dataset = Uniform({"id": np.array([0, 1, 2]), "x": np.array([5.0, 6.0, 7.0])})
    dataset = dataset.attach(
        rows_dataset(1, 2, known=known), 4, per_row=True, exclude="known"
    )
    element = next(iter(dataset))
    np.testing.assert_array_equal(element["negatives_mask"], [[False] * 4, [True] * 4])
    np.testing.assert_array_equal(element["negatives"]["x"], [[5.0] * 4, [7.0] * 4])
    np.testing.assert_array_equal(element["negatives_log_q"], np.zeros((2, 4)))
