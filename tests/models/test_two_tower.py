"""The two-tower model learns from columns, is saved, and served without Python."""

import math
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives import data, index, layers, models, samplers, tasks, towers
from tfrs_negatives._keras import keras

USERS, ITEMS, ROWS, DIM, LENGTH = 12, 30, 240, 8, 4

ITEM_TABLE = {
    "item": np.arange(ITEMS),
    "genres": [f"genre {i % 6}|any" if i % 5 else None for i in range(ITEMS)],
    "title": [f"the {i % 6} of {i}" for i in range(ITEMS)],
    "price": [float(i % 7) or None for i in range(ITEMS)],
    "released": np.arange(ITEMS).astype("M8[D]"),
}
USER_TABLE = {
    "user": [f"user {i}" for i in range(USERS)],
    "age": [None if i == 3 else 20 + i for i in range(USERS)],
}


def interactions():
    """User u likes items with the same remainder by 6."""
    rng = np.random.default_rng(2)
    users = rng.integers(0, USERS, ROWS)
    return {
        "user": np.array(USER_TABLE["user"])[users],
        "item": users % 6 + 6 * rng.integers(0, ITEMS // 6, ROWS),
        "time": rng.integers(0, 40, ROWS),
    }


TABLE = interactions()


def two_towers(pooling="attention"):
    item_tower = towers.Tower(
        [
            towers.Id("item"),
            towers.Categorical("genres", "|"),
            towers.Text("title", num_buckets=64),
            towers.Numeric("price"),
            towers.Date("released"),
        ],
        dim=DIM,
        hidden=[8],
    ).adapt(ITEM_TABLE)
    user_tower = towers.Tower(
        [
            towers.Id("user"),
            towers.Numeric("age", buckets=3),
            towers.History(length=LENGTH, pooling=pooling),
        ],
        dim=DIM,
    ).adapt(USER_TABLE)
    return user_tower, item_tower


def rows(model, batch=48):
    """Batches with histories, and the features of users and items."""
    histories = data.histories_of(TABLE, LENGTH)
    columns = {"user": TABLE["user"], "item": TABLE["item"], "row": np.arange(ROWS)}
    batches = tf.data.Dataset.from_tensor_slices(columns).batch(batch)
    batches = histories.attach(batches)
    for tower, table, key in (
        (model.user_tower, USER_TABLE, "user"),
        (model.item_tower, ITEM_TABLE, "item"),
    ):
        batches = data.features_of(tower.tensors(table), key).attach(batches)
    return batches


def trained(epochs=5, **options):
    keras.utils.set_random_seed(0)
    model = models.TwoTower(*two_towers(), **options)
    model.compile(keras.optimizers.Adam(0.02))
    batches = rows(model)
    model.fit(batches, epochs=epochs, verbose=0)
    return model


@pytest.fixture(scope="module")
def model():
    """Trained; not to be changed."""
    return trained()


def queries():
    latest = data.histories_of(TABLE, LENGTH).latest(USER_TABLE["user"])
    return {**USER_TABLE, "history": latest}


def scores(model, table=None):
    users = model.user_tower.embed(queries() if table is None else table)
    return users @ model.item_tower.embed(ITEM_TABLE).T


def test_it_learns_who_likes_what(model):
    likes = np.arange(USERS)[:, None] % 6 == np.arange(ITEMS) % 6
    found = scores(model)
    assert np.mean(found[likes]) > np.mean(found[~likes]) + 0.5
    # Users who were never there, from what they did and their age alone.
    new = {**queries(), "user": ["new"] * USERS}
    found = scores(model, new)
    assert np.mean(found[likes]) > np.mean(found[~likes]) + 0.2
    assert model.query_keys == ("user",) and model.item_id == "item"
    assert "TwoTower(user_tower=Tower(" in repr(model)


def test_the_loss_is_that_of_the_towers_and_the_task(model):
    (batch,) = rows(model).take(1)
    loss = model.compute_loss(batch)
    again = model.task(
        model.user_tower(batch),
        model.item_tower(batch),
        candidate_ids=batch["item"],
        query_keys=batch["user"],
        compute_metrics=False,
    )
    np.testing.assert_allclose(loss, again, rtol=1e-6)


def test_the_history_shares_the_items_embeddings(model):
    (history,) = model.user_tower.histories
    assert history.items is model.item_tower.id_feature
    ids = [id(weight) for weight in model.weights]
    assert len(set(ids)) == len(ids)


def test_saved_and_loaded(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(scores(loaded), scores(model))
    (history,) = loaded.user_tower.histories
    assert history.items is loaded.item_tower.id_feature
    assert loaded.user_tower.describe() == model.user_tower.describe()


@pytest.mark.slow(reason="trains and evaluates, what the fast test only embeds")
def test_what_is_loaded_trains_on(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    batches = rows(loaded, batch=7)
    assert loaded.evaluate(batches, verbose=0) == model.evaluate(batches, verbose=0)
    loaded.fit(batches, verbose=0)
    assert not np.allclose(scores(loaded), scores(model))
    model.save_weights(tmp_path / "model.weights.h5")
    other = models.TwoTower(*two_towers())
    other.build_from_config(model.get_build_config())
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(scores(other), scores(model))


SERVE = """
import sys
import numpy as np, tensorflow as tf
served = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
answer = served(
    user=tf.constant(["user 1", "new"]),
    age=tf.constant([21.0, float("nan")], tf.float64),
    history=tf.constant([[1, 7, -5], [2, 8, 14]], tf.int64),
    k=tf.constant(5),
)
assert "tfrs_negatives" not in sys.modules
np.savez(sys.argv[2], **{name: value.numpy() for name, value in answer.items()})
"""


@pytest.mark.slow(reason="test_export_retrieval asks exports in such a process too")
def test_exported_without_python(model, tmp_path):
    """In a process that has TensorFlow alone; -5 is no item, and fills up."""
    items = model.item_tower.embed(ITEM_TABLE)
    exact = index.BruteForce().index(items, ITEM_TABLE["item"])
    folder, found = tmp_path / "export", tmp_path / "answer.npz"
    index.export_retrieval(
        folder,
        model.user_tower,
        exact,
        query_signature=model.user_tower.signature(),
    )
    subprocess.run([sys.executable, "-c", SERVE, folder, found], check=True)
    answer = np.load(found)
    asked = {
        "user": ["user 1", "new"],
        "age": [21.0, None],
        "history": [[1, 7], [2, 8, 14]],
    }
    expected = scores(model, asked)
    order = np.argsort(-expected, axis=1)[:, :5]
    np.testing.assert_array_equal(answer["ids"], order)
    best = np.take_along_axis(expected, order, axis=1)
    np.testing.assert_allclose(answer["scores"], best, rtol=1e-5)


def test_a_new_item_has_a_vector_and_can_be_found(model):
    """Added to the index without training: its id is unknown, its features are not."""
    new = {
        "item": [1000],
        "genres": ["genre 2|any"],
        "title": ["the 2 of 100"],
        "price": [None],
        "released": np.array(["1970-01-12"], "M8[D]"),
    }
    vectors = np.concatenate(
        [model.item_tower.embed(ITEM_TABLE), model.item_tower.embed(new)]
    )
    likes = np.arange(USERS) % 6 == 2
    found = model.user_tower.embed(queries()) @ vectors[-1]
    assert found[likes].mean() > found[~likes].mean() + 0.2
    exact = index.BruteForce(k=3).index(vectors, np.append(ITEM_TABLE["item"], 1000))
    _, ids = exact(tf.constant(vectors[-1:]))
    assert 1000 in np.asarray(ids)


def test_a_training_row_sees_only_what_came_before(model):
    """No leak: the loss of a row does not change with what its user does later."""
    histories = data.histories_of(TABLE, LENGTH)
    last = TABLE["time"] >= 20
    changed = {
        **TABLE,
        "item": np.where(last, ITEMS - 1 - TABLE["item"], TABLE["item"]),
    }
    others = data.histories_of(changed, LENGTH)
    (batch,) = rows(model, batch=ROWS).take(1)
    early = np.flatnonzero(TABLE["time"] <= 20)
    embeddings = [
        model.user_tower({**batch, "history": h.before(np.arange(ROWS))}).numpy()
        for h in (histories, others)
    ]
    # Other items in other histories of the batch change how products are rounded.
    np.testing.assert_allclose(
        embeddings[0][early], embeddings[1][early], rtol=1e-5, atol=1e-6
    )
    late = np.flatnonzero(TABLE["time"] > 30)
    assert not np.allclose(embeddings[0][late], embeddings[1][late])


def test_sampled_negatives_are_columns():
    user_tower, item_tower = two_towers()
    correction = layers.MixedLogQ([layers.StreamingFrequency(100), -math.log(ITEMS)])
    task = tasks.Retrieval(sampling_correction=correction)
    model = models.TwoTower(user_tower, item_tower, task)
    sampler = samplers.Uniform(item_tower.tensors(ITEM_TABLE), id_feature="item")
    batches = sampler.attach(rows(model), 16)
    (batch,) = batches.take(1)
    found = model.compute_loss(batch)
    both = {
        name: tf.concat(
            [batch[name], tf.cast(batch["negatives"][name], batch[name].dtype)], axis=0
        )
        for name in item_tower.columns
    }
    expected = task(
        user_tower(batch),
        item_tower(both),
        candidate_ids=both["item"],
        query_keys=batch["user"],
        training=False,
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def with_catalogue():
    user_tower, item_tower = two_towers("mean")
    catalogue = samplers.Catalogue(item_tower.tensors(ITEM_TABLE), id_feature="item")
    task = tasks.Retrieval(
        positive="negatives",
        remove_accidental_hits=True,
        sampling_correction=catalogue.log_q,
    )
    return models.TwoTower(user_tower, item_tower, task, catalogue=catalogue)


def test_a_catalogue_is_all_columns():
    model = with_catalogue()
    user_tower, item_tower = model.user_tower, model.item_tower
    (batch,) = rows(model).take(1)
    users = np.float64(user_tower(batch))
    logits = users @ np.float64(item_tower(item_tower.tensors(ITEM_TABLE))).T
    positive = logits[np.arange(len(users)), batch["item"]]
    expected = np.sum(np.log(np.exp(logits).sum(axis=1)) - positive)
    np.testing.assert_allclose(model.compute_loss(batch), expected, rtol=1e-5)


@pytest.mark.slow(reason="fits two models more, for one error")
def test_a_catalogue_is_not_saved(tmp_path):
    model = with_catalogue()
    model.compile("adam")
    model.fit(rows(model), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(scores(loaded), scores(model))
    with pytest.raises(ValueError, match="expected `model.catalogue` before `fit`"):
        loaded.fit(rows(loaded), verbose=0)
    loaded.catalogue = model.catalogue
    loaded.fit(rows(loaded), verbose=0)


def test_known_positives_and_weights():
    user_tower, item_tower = two_towers("mean")
    task = tasks.Retrieval()
    model = models.TwoTower(
        user_tower, item_tower, task, query_keys=[], sample_weight="weight"
    )
    batches = data.positives_of(TABLE).attach(rows(model), "user")
    (batch,) = batches.take(1)
    batch["weight"] = tf.cast(tf.range(48), tf.float32)
    expected = task(
        user_tower(batch),
        item_tower(batch),
        candidate_ids=batch["item"],
        known_positive_ids=batch["known_positives"],
        sample_weight=batch["weight"],
    )
    np.testing.assert_allclose(model.compute_loss(batch), expected, rtol=1e-6)


def test_towers_that_do_not_fit():
    user_tower, item_tower = two_towers()
    with pytest.raises(ValueError, match="`item_tower` must have a `towers.Id`"):
        models.TwoTower(
            user_tower, towers.Tower([towers.Text("title")], DIM).adapt(ITEM_TABLE)
        )
    with pytest.raises(ValueError, match="`dim` 8 of users and 4 of items"):
        models.TwoTower(user_tower, towers.Tower([towers.Id("item")], 4))
    with pytest.raises(
        ValueError, match="must be a `towers.Tower`, received Embedding"
    ):
        models.TwoTower(user_tower, keras.layers.Embedding(3, DIM))
    with pytest.raises(ValueError, match="knows no values yet"):
        models.TwoTower(user_tower, towers.Tower([towers.Id("item")], DIM))
    model = models.TwoTower(user_tower, item_tower)
    with pytest.raises(ValueError, match="without 'genres'"):
        model.compute_loss({"item": tf.constant([1]), "user": tf.constant(["a"])})
