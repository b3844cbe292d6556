"""Draws from the stratum of the positive: their distribution, and what they train."""

import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from grids import grid, only_under
from sampler_oracles import check_distribution, collect, restricted, rows_dataset

from tfrs_negatives._keras import keras
from tfrs_negatives.layers import MixedLogQ, StaticFrequency
from tfrs_negatives.models import Model
from tfrs_negatives.samplers import Mixture, Popularity, Stratified, Uniform
from tfrs_negatives.tasks import Retrieval

# Three strata, of 4, 5 and 3 items, in no order.
STRATA = np.array([0, 2, 1, 0, 1, 1, 2, 0, 1, 0, 1, 2])
ITEMS = len(STRATA)
NAMES = np.array(["de", "fr", "it"])[STRATA]
COUNTS = np.array([9, 1, 4, 0, 25, 1, 16, 4, 9, 1, 0, 30])
IDS = np.array([f"item {i}" for i in range(ITEMS)])


def weights_of(counts, power=0.75):
    if counts is None:
        return np.ones(ITEMS)
    return np.array([c**power if c else 0.0 for c in counts.tolist()])


def in_stratum(stratum, counts=None, power=0.75):
    """q [N] of a draw inside of a stratum."""
    q = np.where(STRATA == stratum, weights_of(counts, power), 0)
    return q / q.sum()


def stratified(counts=None, **options):
    return Stratified(np.arange(ITEMS), STRATA, "item", counts=counts, **options)


@pytest.mark.parametrize("counts, power", [(None, 0.75), (COUNTS, 0.75), (COUNTS, 1)])
def test_shared_draws_are_of_the_strata_of_the_positives(counts, power):
    # Positives of the strata 0 and 2, of 1 alone, of all.
    items = np.array([[0, 3, 1], [2, 2, 4], [5, 6, 7]])
    dataset = tf.data.Dataset.from_tensor_slices({"item": items}).repeat(40)
    sampler = stratified(counts, power=power)
    drawn = {stratum: [] for stratum in range(3)}
    for element in sampler.attach(dataset, 200, seed=3):
        strata, rows = (
            element[f"negatives_{name}"].numpy() for name in ("strata", "row_strata")
        )
        draws, log_q = element["negatives"].numpy(), element["negatives_log_q"].numpy()
        np.testing.assert_array_equal(rows, STRATA[element["item"].numpy()])
        np.testing.assert_array_equal(strata, np.repeat(np.unique(rows), 200))
        np.testing.assert_array_equal(STRATA[draws], strata)
        for stratum in np.unique(rows):
            here = strata == stratum
            q = in_stratum(stratum, counts, power)
            np.testing.assert_allclose(np.exp(log_q[here]), q[draws[here]], rtol=1e-5)
            drawn[stratum].append(draws[here])
    for stratum, draws in drawn.items():
        check_distribution(draws, in_stratum(stratum, counts, power))


@pytest.mark.parametrize("counts", [None, COUNTS])
def test_rows_draw_from_the_stratum_of_their_positive(counts):
    """With what they know left out, of their stratum and of others."""
    items = np.array([0, 4, 11, 1])
    known = np.array([[0, 9, 2], [4, 4, 99], [11, -1, 0], [5, 7, 9]])
    dataset = rows_dataset(20, 400, item=items, known=known)
    dataset = stratified(counts).attach(
        dataset, 5, per_row=True, exclude="known", seed=1
    )
    draws, log_q, mask = collect(
        dataset, "negatives", "negatives_log_q", "negatives_mask"
    )
    assert mask.all()
    for row, item in enumerate(items):
        excluded = {e for e in known[row].tolist() if 0 <= e < ITEMS}
        q = restricted(in_stratum(STRATA[item], counts), excluded)
        check_distribution(draws[row::4], q)
        np.testing.assert_allclose(np.exp(log_q[row::4]), q[draws[row::4]], rtol=1e-5)


def test_rows_that_know_their_stratum_are_masked():
    known = np.flatnonzero(STRATA == 2)[np.newaxis]
    dataset = rows_dataset(1, 2, item=np.array([1, 0]), known=known)
    dataset = stratified().attach(dataset, 3, per_row=True, exclude="known")
    mask = collect(dataset, "negatives_mask")
    np.testing.assert_array_equal(mask, [[False] * 3, [True] * 3])


def test_a_mixture_of_the_stratum_and_all():
    samplers = [
        stratified(),
        Uniform(np.arange(ITEMS)),
        Popularity(np.arange(ITEMS), COUNTS, 1.0),
    ]
    mixture = Mixture(samplers, [2.0, 1.0, 1.0])
    items = np.array([0, 4, 11])
    dataset = mixture.attach(rows_dataset(20, 600, item=items), 8, per_row=True, seed=2)
    draws, log_q = collect(dataset, "negatives", "negatives_log_q")
    for row, item in enumerate(items):
        q = 0.5 * in_stratum(STRATA[item]) + 0.25 / ITEMS + 0.25 * COUNTS / COUNTS.sum()
        check_distribution(draws[row::3], q)
        np.testing.assert_allclose(np.exp(log_q[row::3]), q[draws[row::3]], rtol=1e-5)
    with pytest.raises(ValueError, match="belong to single rows"):
        mixture.log_q  # noqa: B018
    with pytest.raises(ValueError, match="expected `per_row=True`"):
        mixture.attach(rows_dataset(item=items), 8)


FORMS = {
    "in order": STRATA,
    "names": NAMES,
    "a dict": dict(zip(IDS.tolist(), NAMES.tolist(), strict=True)),
    "a pair": (IDS[::-1], STRATA[::-1]),
    "a Series": pd.Series(NAMES[::-1], index=IDS[::-1]),
}


@pytest.mark.parametrize("form", FORMS)
def test_strata_by_name_and_in_any_order(form):
    corpus = {"name": IDS, "place": np.arange(ITEMS)}
    sampler = Stratified(corpus, FORMS[form], "item", id_feature="name")
    assert sampler.num_strata == 3
    element = next(iter(sampler.attach(rows_dataset(1, 6, item=IDS[3:9]), 50)))
    drawn = element["negatives"]["place"].numpy()
    np.testing.assert_array_equal(STRATA[drawn], element["negatives_strata"])
    assert set(drawn) == set(range(ITEMS))


@pytest.mark.parametrize("ids", [np.arange(ITEMS) * 3 - 5, IDS])
@pytest.mark.parametrize("counts", [None, COUNTS])
def test_log_q_is_that_of_one_of_the_draws(ids, counts):
    sampler = Stratified(ids, STRATA, "item", counts=counts)
    layer = sampler.log_q
    rebuilt = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
    positives = np.array([0, 3, 1])  # Of two strata.
    columns = tf.constant(ids[np.concatenate([positives, np.arange(ITEMS)])])
    q = (in_stratum(0, counts) + in_stratum(2, counts)) / 2
    for source in (layer, rebuilt):
        found = np.exp(source.drawn_log_q(columns, 3))[3:]
        np.testing.assert_allclose(found, q, rtol=1e-5, atol=1e-12)
        # By itself what is never drawn has a floor.
        alone = source(columns, num_positives=3).numpy()[3:]
        np.testing.assert_allclose(np.exp(alone[q > 0]), q[q > 0], rtol=1e-5)
        assert np.isfinite(alone).all()
    # 40 draws of each of two strata beside three columns of the batch.
    mixed = MixedLogQ([-np.log(ITEMS).item(), layer])
    every = tf.concat([columns[:3], tf.repeat(columns[3:4], 80)], axis=0)
    found = mixed(every, num_positives=3).numpy()
    expected = (3 / ITEMS + 80 * q[[*positives, 0]]) / 83
    np.testing.assert_allclose(np.exp(found[:4]), expected, rtol=1e-5)


def test_log_q_of_strata_beside_uniform_draws():
    """The strata's block has what the uniform one leaves, of whatever number."""
    sampler, uniform = stratified(COUNTS), Uniform(np.arange(ITEMS))
    batch_q = (1 + COUNTS) / (1 + COUNTS).sum()
    mixed = MixedLogQ(
        [StaticFrequency(1 + COUNTS), sampler.log_q, uniform.log_q], sizes=[None, 7]
    )
    dataset = rows_dataset(4, 3, item=np.arange(ITEMS))
    dataset = uniform.attach(sampler.attach(dataset, 5), 7, name="others")
    for element in dataset:
        parts = [element[name] for name in ("item", "negatives", "others")]
        columns = tf.concat(parts, axis=0).numpy()
        drawn = sum(
            5 * in_stratum(stratum, COUNTS) for stratum in set(STRATA[parts[0]])
        )
        q = (3 * batch_q + drawn + 7 / ITEMS) / len(columns)
        found = np.exp(mixed(tf.constant(columns), num_positives=3))
        np.testing.assert_allclose(found, q[columns], rtol=1e-5)


def full_gradient(scores, positive):
    """Softmax over the positive's stratum minus one-hot, in the scores."""
    weights = np.where(STRATA == STRATA[positive], np.exp(scores), 0)
    gradient = weights / weights.sum()
    gradient[positive] -= 1
    return gradient


# The decision: biased when for some item the averaged gradient is more than TOLERANCE
# away beyond 6 standard errors; a normal variable is there with probability 2e-9, so a
# false alarm in all items and cases below has less than 1e-6.
TOLERANCE = 0.01


@only_under(keras_3=False, reason="the same sampler under Keras 2")
@pytest.mark.parametrize("counts, in_batch", grid([None, COUNTS], [False, True]))
def test_the_expected_gradient_is_that_of_the_softmax_over_the_stratum(
    counts, in_batch
):
    """Of the task on what `attach` adds, with log q of the mixture.

    One row's gradient in its scores, averaged over elements whose other positives and
    negatives are drawn anew. Embeddings of items are one-hot: a query is its scores.
    """
    rng = np.random.default_rng(4)
    scores, positive = rng.normal(size=ITEMS), 4
    popular = (1 + COUNTS) / (1 + COUNTS).sum()
    num_rows = 200 if in_batch else 1
    items = rng.choice(ITEMS, (150, num_rows), p=popular)
    items[:, 0] = positive
    sampler = stratified(counts)
    if counts is not None:
        # What the stratum's draws never give only the batch can.
        assert in_stratum(1, counts).min() == 0
    dataset = tf.data.Dataset.from_tensor_slices({"item": items})
    batch_log_q = StaticFrequency(popular * 1e6)
    correction = MixedLogQ([batch_log_q, sampler.log_q])
    task = Retrieval(sampling_correction=correction)
    weights = np.eye(1, num_rows)[0]
    embeddings = tf.eye(ITEMS, dtype=tf.float64)

    @tf.function
    def gradient(element):
        ids = tf.concat([element["item"], element["negatives"]], axis=0)
        strata = element["negatives_row_strata"]
        queries = tf.tile(tf.constant(scores)[tf.newaxis], [num_rows, 1])
        with tf.GradientTape() as tape:
            tape.watch(queries)
            loss = task(
                queries,
                tf.gather(embeddings, ids),
                sample_weight=weights,
                candidate_ids=ids,
                query_strata=strata,
                candidate_strata=tf.concat(
                    [strata, element["negatives_strata"]], axis=0
                ),
                training=True,
            )
        return tape.gradient(loss, queries)[0]

    found = np.stack(
        [gradient(e).numpy() for e in sampler.attach(dataset, 2000, seed=7)]
    )
    if counts is not None and not in_batch:
        # The sum is over what can be drawn, and the positive.
        target = np.where(in_stratum(1, counts) > 0, scores, -np.inf)
        target[positive] = scores[positive]
    else:
        target = scores
    error = found.std(axis=0) / np.sqrt(len(found))
    far = np.abs(found.mean(axis=0) - full_gradient(target, positive)) - 6 * error
    assert far.max() < TOLERANCE
    # Another stratum's items have no gradient at all.
    assert not found[:, STRATA != STRATA[positive]].any()


@pytest.mark.parametrize("counts", [None, 1 + COUNTS])
def test_the_partition_of_each_stratum_is_estimated_without_bias(counts):
    """The mean of exp(s) / q over draws, by z; a false alarm once in 10^7 for each."""
    scores = np.random.default_rng(5).normal(size=ITEMS)
    dataset = rows_dataset(50, ITEMS, item=np.arange(ITEMS))
    dataset = stratified(counts).attach(dataset, 400, seed=6)
    draws, log_q = collect(dataset, "negatives", "negatives_log_q")
    for stratum in range(3):
        here = STRATA[draws] == stratum
        terms = np.exp(scores[draws[here]] - log_q[here])
        exact = np.exp(scores[STRATA == stratum]).sum()
        z = (terms.mean() - exact) / (terms.std() / np.sqrt(len(terms)))
        assert abs(z) < 5.4


def test_equal_seeds_draw_alike_and_names_differ():
    def draws(**options):
        dataset = rows_dataset(3, 4, item=np.arange(ITEMS))
        name = options.get("name", "negatives")
        return collect(stratified().attach(dataset, 30, **options), name)

    np.testing.assert_array_equal(draws(seed=1), draws(seed=1))
    assert (draws(seed=1) != draws(seed=2)).any()
    assert (draws(seed=1) != draws(seed=1, name="others")).any()


def test_other_samplers_are_attached_after():
    """They find the number of rows, not that of the draws."""
    dataset = rows_dataset(2, 3, item=np.array([0, 1, 2]))
    dataset = dataset.map(lambda e: {"item": e["item"]})
    dataset = stratified().attach(dataset, 5, name="a")
    dataset = Uniform(np.arange(ITEMS)).attach(dataset, 2, per_row=True, name="b")
    for element in dataset:
        assert element["a"].shape == (15,) and element["b"].shape == (3, 2)


def test_a_pipeline_resumes_in_the_middle(tmp_path):
    dataset = stratified().attach(rows_dataset(6, 4, item=np.arange(ITEMS)), 9)
    iterator = iter(dataset)
    for _ in range(2):
        next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).save(tmp_path / "iterator")
    expected = [e["negatives"].numpy() for e in iterator]
    other = iter(dataset)
    tf.train.Checkpoint(iterator=other).restore(path)
    for one, element in zip(expected, other, strict=True):
        np.testing.assert_array_equal(one, element["negatives"])


def test_positives_that_the_corpus_lacks_stop_the_pipeline():
    for per_row in (False, True):
        dataset = rows_dataset(1, 2, item=np.array([3, 77]))
        dataset = stratified().attach(dataset, 2, per_row=per_row)
        message = "(?s)`item` must hold items of the corpus.*77"
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            next(iter(dataset))


ALONE = np.where(np.arange(ITEMS) == 5, "alone", NAMES)


@pytest.mark.parametrize(
    "strata, message",
    [
        (
            STRATA[:5],
            "one stratum for each item of the corpus, expected 12, received 5",
        ),
        (ALONE, "1 strata of one item, 'alone' for one. Merge small strata"),
        (dict(enumerate(NAMES[:10].tolist())), "2 of its 12 items have none, .*10"),
        ({**dict(enumerate(NAMES.tolist())), 77: "de"}, "1 ids that it lacks, 77"),
        ((np.arange(ITEMS), STRATA[:3]), "received 12 ids and 3 strata"),
        ((np.zeros(ITEMS, int), STRATA), "each id once, received 11 repeats"),
        (STRATA / 2, "'strata' must hold ids"),
        ([None, *NAMES[1:].tolist()], "none missing"),
        (np.stack([STRATA, STRATA]), "'strata' must be a vector"),
    ],
)
def test_bad_strata(strata, message):
    with pytest.raises(ValueError, match=message):
        Stratified(np.arange(ITEMS), strata, "item")


def test_bad_options():
    counts = np.where(STRATA == 1, 0, 3)
    with pytest.raises(ValueError, match="1 strata have none, 1 for one"):
        stratified(counts)
    with pytest.raises(ValueError, match="`power` must be from 0"):
        stratified(COUNTS, power=2)
    dataset = rows_dataset(item=np.arange(ITEMS), known=np.arange(ITEMS))
    with pytest.raises(ValueError, match="`exclude` names known positives"):
        stratified().attach(dataset, 3, exclude="known")
    with pytest.raises(ValueError, match="expected 'item'"):
        stratified().attach(rows_dataset(), 3)
    with pytest.raises(ValueError, match="`num_negatives`"):
        stratified().attach(dataset, 0)
    taken = dataset.map(lambda e: {**e, "negatives_strata": e["item"]})
    with pytest.raises(ValueError, match="without 'negatives_strata'"):
        stratified().attach(taken, 3)


def test_what_is_printed():
    sampler = stratified(COUNTS, power=1.0)
    assert repr(sampler) == (
        "Stratified(num_items=12, num_strata=3, item_feature='item', power=1)"
    )
    assert repr(sampler.log_q) == "StratifiedLogQ(num_ids=12, num_strata=3)"


class TwoTower(Model):
    def __init__(self, sampler):
        super().__init__()
        self.users = keras.layers.Embedding(4, 8)
        self.items = keras.layers.Embedding(ITEMS, 8)
        log_q = MixedLogQ([StaticFrequency(np.ones(ITEMS)), sampler.log_q])
        self.task = Retrieval(temperature=0.5, sampling_correction=log_q)
        self.traces = []

    def compute_loss(self, features, training=False):
        self.traces.append(training)
        ids = tf.concat([features["item"], features["negatives"]], axis=0)
        strata = features["negatives_row_strata"]
        return self.task(
            self.users(features["user"]),
            self.items(ids),
            candidate_ids=ids,
            query_strata=strata,
            candidate_strata=tf.concat([strata, features["negatives_strata"]], axis=0),
            training=training,
        )


@only_under(keras_3=True, reason="the same sampler under Keras 3")
def test_fit_ranks_the_positive_first_in_its_stratum():
    """Without tracing anew, though elements have different numbers of draws."""
    # Two users of the stratum 1 and one of each of the others.
    items = np.array([0, 4, 10, 11])
    rows = {"user": np.arange(40) % 4, "item": items[np.arange(40) % 4]}
    dataset = tf.data.Dataset.from_tensor_slices(rows).batch(3)
    sampler = stratified()
    model = TwoTower(sampler)
    model.compile(optimizer=keras.optimizers.Adam(0.05))
    dataset = sampler.attach(dataset, 6)
    model.fit(dataset, verbose=0)
    traces = len(model.traces)
    model.fit(dataset, epochs=8, verbose=0)
    scores = model.users.embeddings @ tf.transpose(model.items.embeddings)
    for user, item in enumerate(items):
        in_its = np.where(STRATA == STRATA[item], scores[user], -np.inf)
        assert in_its.argmax() == item
    assert len(model.traces) == traces
