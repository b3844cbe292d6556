"""What `attach` promises for every sampler."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from grids import some_of
from sampler_oracles import check_distribution, collect, rows_dataset

from tfrs_negatives.samplers import Mined, Mixture, Popularity, Uniform

ITEMS = np.arange(1000)
TABLE = np.random.default_rng(0).permuted(np.tile(ITEMS, (4, 1)), axis=1)[:, :200]


def mined():
    return Mined(ITEMS, TABLE, "query")


def mixture():
    return Mixture([Uniform(ITEMS), mined()], [1.0, 1.0])


def popularity():
    return Popularity(ITEMS, 1 + ITEMS % 7)


SHARED = [
    lambda: Uniform(ITEMS),
    popularity,
    lambda: Mixture([Uniform(ITEMS), popularity()], [1, 1]),
]
EVERY = [(make, False) for make in SHARED] + [
    (make, True) for make in (*SHARED, mined, mixture)
]
# Each sampler, shared or by row.
FAST = [EVERY[place] for place in (0, 2, 4, 6, 7)]
every_sampler = pytest.mark.parametrize("make, per_row", some_of(EVERY, FAST))


def batches(num_batches=8):
    return rows_dataset(num_batches, 4, query=np.arange(4))


def attached(make, per_row, dataset=None, **options):
    dataset = batches() if dataset is None else dataset
    return make().attach(dataset, 20, per_row=per_row, **options)


def drawn(dataset, name="negatives"):
    return np.stack([element[name].numpy() for element in dataset])


@every_sampler
def test_seeds_reproduce_and_all_else_differs(make, per_row):
    first, again, other = (
        drawn(attached(make, per_row, seed=seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.mean(first == other) < 0.1
    assert np.mean(first[0] == first[1]) < 0.1
    epochs = drawn(attached(make, per_row, seed=1).repeat(2))
    np.testing.assert_array_equal(epochs[:8], first)
    assert np.mean(epochs[:8] == epochs[8:]) < 0.1
    renamed = drawn(attached(make, per_row, seed=1, name="others"), "others")
    assert np.mean(first == renamed) < 0.1


@every_sampler
def test_input_pipelines_differ(make, per_row):
    pipelines = [
        drawn(
            attached(
                make,
                per_row,
                input_context=tf.distribute.InputContext(2, pipeline, 2),
            )
        )
        for pipeline in (0, 1, 0)
    ]
    np.testing.assert_array_equal(pipelines[0], pipelines[2])
    assert np.mean(pipelines[0] == pipelines[1]) < 0.1


@every_sampler
def test_restored_iterator_goes_on(make, per_row, tmp_path):
    def fresh():
        rows = batches(16).unbatch().shuffle(30, seed=1).batch(4)
        return attached(make, per_row, rows, seed=1).prefetch(2)

    names = "row", "negatives", "negatives_log_q"
    expected = [[e[n].numpy() for n in names] for e in fresh()]
    iterator = iter(fresh())
    for _ in range(5):
        next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).save(tmp_path / "iterator")
    resumed = iter(fresh())
    tf.train.Checkpoint(iterator=resumed).restore(path)
    left = [[e[n].numpy() for n in names] for e in resumed]
    assert len(left) == 11
    for values, others in zip(left, expected[5:], strict=True):
        for value, other in zip(values, others, strict=True):
            np.testing.assert_array_equal(value, other)


def test_restored_iterator_draws_from_the_distribution(tmp_path):
    """What follows a restoration has the distribution too, not only the same draws."""
    counts = np.array([5, 0, 1, 4])
    known = np.array([[0], [2], [-1], [3]])

    def fresh():
        dataset = rows_dataset(20, 400, known=known)
        return iter(
            Popularity(np.arange(4), counts, 1.0).attach(
                dataset, 5, per_row=True, exclude="known", seed=9
            )
        )

    iterator = fresh()
    for _ in range(10):
        next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).save(tmp_path / "iterator")
    iterator = fresh()
    tf.train.Checkpoint(iterator=iterator).restore(path)
    draws = collect(iterator, "negatives")
    assert len(draws) == 4000
    for row, weights in enumerate([[0, 0, 1, 4], [5, 0, 0, 4], counts, [5, 0, 1, 0]]):
        check_distribution(draws[row::4], np.array(weights) / np.sum(weights))


def per_replica(strategy, dataset, *names):
    """[replica][element], tuples of the features' values."""
    replicas = [[] for _ in range(strategy.num_replicas_in_sync)]
    for element in dataset:
        values = [strategy.experimental_local_results(element[n]) for n in names]
        for replica, value in zip(replicas, zip(*values, strict=True), strict=True):
            replica.append([v.numpy() for v in value])
    return replicas


@every_sampler
@pytest.mark.parametrize("from_function", [False, True])
def test_replicas_never_repeat_each_other(two_replicas, make, per_row, from_function):
    if from_function:
        dataset = two_replicas.distribute_datasets_from_function(
            lambda context: attached(make, per_row, input_context=context)
        )
    else:
        dataset = two_replicas.experimental_distribute_dataset(attached(make, per_row))
    first, second = per_replica(two_replicas, dataset, "row", "negatives")
    rows = np.concatenate([row for row, _ in first + second])
    assert sorted(rows) == list(range(32))
    for (_, one), (_, other) in zip(first, second, strict=True):
        rows, num = (4, 20) if from_function else (2, 20 if per_row else 10)
        assert one.shape == other.shape == ((rows, num) if per_row else (num,))
        assert np.mean(one == other) < 0.2


@pytest.mark.parametrize("from_function", [False, True])
def test_the_distribution_under_two_replicas(two_replicas, from_function):
    counts = np.array([5, 0, 1, 4])
    table = [[2, 1, 0], [3, 2]]
    known = np.array([[0], [2]])

    def make(context=None):
        items = np.arange(4)
        samplers = [Popularity(items, counts, 1.0), Mined(items, table, "query")]
        dataset = rows_dataset(20, 400, query=np.arange(2), known=known)
        dataset = Mixture(samplers, [1, 1]).attach(
            dataset, 4, per_row=True, exclude="known", input_context=context
        )
        return Uniform(items).attach(dataset, 300, name="shared", input_context=context)

    if from_function:
        dataset = two_replicas.distribute_datasets_from_function(make)
    else:
        dataset = two_replicas.experimental_distribute_dataset(make())
    expected = np.array(
        # Half the popularities, half the table's, without the known item.
        [[0, 0.25, 0.5 / 5 + 0.25, 2 / 5], [2.5 / 9, 0, 0, 2 / 9 + 0.5]]
    )
    names = "query", "negatives", "negatives_log_q", "negatives_mask", "shared"
    for elements in per_replica(two_replicas, dataset, *names):
        query, draws, log_q, mask, shared = (
            np.concatenate(values) for values in zip(*elements, strict=True)
        )
        check_distribution(shared, np.full(4, 0.25))
        for row, q in enumerate(expected):
            # A row has fewer mined items than draws, which are independent.
            here = query == row
            assert mask[here].all()
            check_distribution(draws[here], q)
            np.testing.assert_allclose(np.exp(log_q[here]), q[draws[here]], rtol=1e-5)


def test_elements_keep_static_shapes():
    dataset = rows_dataset(4, 4, query=np.arange(4)).map(lambda e: e)
    spec = attached(mined, True, dataset).element_spec
    assert spec["negatives"].shape.as_list() == [None, 20]
    dataset = dataset.unbatch().batch(4, drop_remainder=True)
    for name, dtype in [("", tf.int64), ("_log_q", tf.float32), ("_mask", tf.bool)]:
        for make in (mined, mixture, popularity):
            spec = attached(make, True, dataset).element_spec[f"negatives{name}"]
            assert spec == tf.TensorSpec([4, 20], dtype)
    spec = attached(popularity, False, dataset).element_spec
    assert spec["negatives_log_q"] == tf.TensorSpec([20], tf.float32)


@every_sampler
@pytest.mark.parametrize("exclude", [None, "known"])
def test_a_batch_without_rows(make, per_row, exclude):
    if exclude and not per_row:
        return
    none = {"query": tf.zeros([0], tf.int64), "known": tf.zeros([0, 3], tf.int64)}
    dataset = attached(
        make, per_row, tf.data.Dataset.from_tensors(none), exclude=exclude
    )
    shape = next(iter(dataset))["negatives"].shape
    assert shape == ((0, 20) if per_row else (20,))


def test_a_batch_without_rows_whose_ids_are_looked_up():
    ids = ITEMS[::-1].copy()
    sampler = Mined(ids, TABLE, "query", row_ids=[9, 7, 5, 3])
    none = {"query": tf.zeros([0], tf.int64), "known": tf.zeros([0, 3], tf.int64)}
    dataset = tf.data.Dataset.from_tensors(none)
    dataset = sampler.attach(dataset, 3, per_row=True, exclude="known")
    assert next(iter(dataset))["negatives"].shape == (0, 3)


def test_rows_are_counted_beside_negatives_attached_before():
    dataset = Uniform(ITEMS).attach(batches(), 7, name="a")
    dataset = Uniform(ITEMS).attach(dataset, 3, name="b", per_row=True)
    element = next(iter(dataset))
    assert element["a"].shape == (7,)
    assert element["b"].shape == (4, 3)


def test_made_within_a_function():
    sampler = Mixture(
        [Uniform(ITEMS[::-1]), Mined(ITEMS[::-1], TABLE, "query")], [1, 1]
    )

    @tf.function
    def total():
        known = tf.tile(tf.range(999)[tf.newaxis], [4, 1])
        dataset = batches().map(lambda element: {**element, "known": known})
        dataset = sampler.attach(dataset, 5, per_row=True, exclude="known")
        sums = tf.constant(0, tf.int64)
        for element in dataset:
            drawn = tf.boolean_mask(element["negatives"], element["negatives_mask"])
            sums += tf.reduce_sum(tf.cast(tf.not_equal(drawn, 999), tf.int64))
            sums += 1000 * tf.cast(tf.size(drawn) > 0, tf.int64)
        return sums

    assert total() == 8000  # Item 999 alone, in all eight elements.


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_negatives": 0}, "num_negatives.*at least 1.*0"),
        ({"num_negatives": 1.5}, "num_negatives.*integer"),
        ({"seed": -1}, "`seed`.*at least 0"),
        ({"name": "row"}, r"without 'row'.*\['query', 'row'\]"),
        ({"exclude": "query"}, "known positives of single rows.*`per_row=True`"),
        ({"exclude": "lacking", "per_row": True}, "expected 'lacking', received"),
        ({"dataset": tf.data.Dataset.range(3)}, "yield dicts.*TensorSpec"),
        (
            {"dataset": tf.data.Dataset.from_tensors({"a": 1}), "per_row": True},
            "Batch the dataset",
        ),
        (
            {
                "dataset": tf.data.Dataset.from_tensors({"a": [["x"]]}),
                "per_row": True,
                "exclude": "a",
            },
            "`a` must hold integers.*received string",
        ),
    ],
)
def test_bad_input(options, message):
    options = {"dataset": batches(), "num_negatives": 3, **options}
    with pytest.raises(ValueError, match=message):
        Uniform(ITEMS).attach(**options)


def test_what_was_attached_is_not_overwritten():
    dataset = Uniform(ITEMS).attach(batches(), 3)
    with pytest.raises(ValueError, match="without 'negatives'"):
        Uniform(ITEMS).attach(dataset, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mined().attach(dataset, 3, per_row=True, name="mined")
