import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives.samplers import Uniform


def batches(n=8, size=4):
    return tf.data.Dataset.range(n * size).map(lambda x: {"row": x}).batch(size)


def drawn(dataset, name="negatives"):
    return np.stack([element[name].numpy() for element in dataset])


def test_features_of_an_item_stay_together():
    corpus = {"id": np.array(["a", "b", "c"]), "price": np.array([1.0, 2.0, 3.0])}
    dataset = Uniform(corpus, 5).attach(batches())
    for element in dataset:
        assert sorted(element) == ["negatives", "row"]
        negatives = element["negatives"]
        assert negatives["id"].shape == negatives["price"].shape == (5,)
        for name, price in zip(*negatives.values(), strict=True):
            assert {b"a": 1.0, b"b": 2.0, b"c": 3.0}[name.numpy()] == price


def test_draws_are_uniform():
    """Chi-square over 50 items, 40,000 draws; false-alarm rate 1e-4, fixed seed."""
    sampler = Uniform(np.arange(50), 400, seed=5)
    ids = drawn(sampler.attach(batches(100))).ravel()
    counts = np.bincount(ids, minlength=50)
    # 99.99% quantile of chi-square with 49 degrees of freedom: 93.
    assert len(counts) == 50 and ((counts - 800) ** 2 / 800).sum() < 93
    assert sampler.num_items == 50
    assert sampler.log_q == pytest.approx(np.log(1 / 50))


def test_seeds_reproduce_and_epochs_differ():
    first, again, other = (
        Uniform(np.arange(1000), 20, seed=s).attach(batches()) for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(drawn(first), drawn(again))
    assert np.mean(drawn(first) == drawn(other)) < 0.1
    two_epochs = drawn(Uniform(np.arange(1000), 20, seed=1).attach(batches()).repeat(2))
    assert np.mean(two_epochs[:8] == two_epochs[8:]) < 0.1
    assert np.mean(two_epochs[0] == two_epochs[1]) < 0.1


def test_restored_iterator_goes_on(tmp_path):
    def fresh():
        return Uniform(np.arange(1000), 20, seed=1).attach(batches())

    expected = drawn(fresh())
    iterator = iter(fresh())
    for _ in range(3):
        next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).save(tmp_path / "iterator")
    resumed = iter(fresh())
    tf.train.Checkpoint(iterator=resumed).restore(path)
    np.testing.assert_array_equal(drawn(resumed), expected[3:])


def test_corpus_from_a_dataset():
    items = tf.data.Dataset.range(7).map(lambda i: {"id": i, "twice": 2 * i})
    sampler = Uniform(items, 9)
    assert sampler.num_items == 7
    negatives = next(iter(sampler.attach(batches())))["negatives"]
    np.testing.assert_array_equal(negatives["twice"], 2 * negatives["id"])


@pytest.mark.parametrize(
    "corpus, num_negatives, message",
    [
        (np.zeros(0), 3, r"at least one.*\[0\]"),
        ({"a": np.zeros(3), "b": np.zeros(4)}, 3, r"same number.*\[3, 4\]"),
        (np.zeros(3), 0, "num_negatives.*at least 1.*0"),
        (np.zeros(3), 1.5, "num_negatives.*integer"),
        (tf.data.Dataset.range(0), 3, "at least one item"),
    ],
)
def test_bad_corpus(corpus, num_negatives, message):
    with pytest.raises(ValueError, match=message):
        Uniform(corpus, num_negatives)


def test_elements_must_be_dicts_without_the_name():
    sampler = Uniform(np.arange(3), 2)
    with pytest.raises(ValueError, match="yield dicts.*TensorSpec"):
        sampler.attach(tf.data.Dataset.range(3))
    with pytest.raises(ValueError, match=r"without 'row'.*\['row'\]"):
        sampler.attach(batches(), name="row")
