"""Exported models whose ids are written otherwise than the table's."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tfrs_negatives import audit, data, index

USERS, ITEMS = np.arange(7, 19), np.arange(40, 55)


def vectors(ids):
    """An embedding that an id alone determines."""
    ids = np.asarray(ids, np.float64)[:, None]
    return np.cos(ids * [1.0, 2.0, 3.0]).astype(np.float32)


def export(path, name="user", dtype=tf.int64, live=False, **options):
    def tower(ids):
        if dtype == tf.string:
            ids = tf.strings.to_number(ids, tf.int64)
        factors = tf.constant([1.0, 2.0, 3.0], tf.float64)
        return tf.cast(tf.cos(tf.cast(ids, tf.float64)[:, None] * factors), tf.float32)

    ids = ITEMS[2:].astype(str) if dtype == tf.string else ITEMS[2:]
    options["query_signature"] = tf.TensorSpec([None], dtype, name=name)
    embeddings = vectors(ITEMS[2:])
    if live:
        index.export_live_retrieval(path, tower, ids, embeddings, **options)
        return
    exact = index.BruteForce().index(embeddings, tf.constant(ids))
    index.export_retrieval(str(path), tower, exact, **options)


def read(path, prefix=""):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"user": rng.choice(USERS, 200), "item": rng.choice(ITEMS, 200)}
    )
    if prefix:
        frame = prefix + frame.astype(str)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    return audit.read_table(path, for_model=True)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("dtype", [tf.int64, tf.int32, tf.string])
def test_scores_whatever_the_ids_are_written_as(tmp_path, ending, dtype):
    export(tmp_path / "model", dtype=dtype)
    table = read(tmp_path / f"rows.{ending}")
    model = audit.load_model(tmp_path / "model", table)
    assert model.knows_item.sum() == len(ITEMS) - 2
    if ending == "parquet":
        users, items = table.user_ids, table.item_ids
    else:  # Text: ids are hashes.
        frame = pd.read_csv(tmp_path / "rows.csv")
        users, items = np.zeros(len(USERS), int), np.zeros(len(ITEMS), int)
        users[table.user], items[table.item] = frame["user"], frame["item"]
    expected = vectors(users) @ vectors(items).T
    expected[:, items < ITEMS[2]] = np.nan
    found = model.scores(np.arange(len(users)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("live", [False, True])
def test_all_items_and_scores_of_a_model_that_leaves_items_out(tmp_path, live):
    """And that knows popularity, of which an audit asks for no discount."""
    export(tmp_path / "plain")
    rows = {"user": [*USERS, 8], "item": [*ITEMS[: len(USERS)], 50]}
    export(
        tmp_path / "model",
        live=live,
        histories=data.positives_of(rows),
        popularity=np.arange(1, len(ITEMS) - 1),
    )
    table = read(tmp_path / "rows.parquet")
    users = np.arange(len(table.user_ids))
    expected, found = (
        audit.load_model(tmp_path / name, table).scores(users)
        for name in ("plain", "model")
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_models_of_other_ids_are_told(tmp_path):
    export(tmp_path / "model")
    with pytest.raises(ValueError, match="users' ids that are whole numbers"):
        audit.load_model(tmp_path / "model", read(tmp_path / "rows.csv", prefix="x"))
    export(tmp_path / "other", name="session")
    table = read(tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match="whose queries are session"):
        audit.load_model(tmp_path / "other", table)
    with pytest.raises(ValueError, match="which is neither"):
        audit.load_model(tmp_path / "nothing", table)
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"cut off")
    with pytest.raises(ValueError, match="cannot be loaded"):
        audit.load_model(tmp_path / "model", table)
