"""What the code of each page takes for granted: small data, towers, a model.

A page's function returns the names that its blocks use and do not define. Lists of ids
are ragged. `CHECKS` call what a page only defines.
"""

import collections

import numpy as np
import tensorflow as tf

import tfrs_negatives as tn
from tfrs_negatives._keras import keras

USERS, ITEMS, ROWS, DIM = 20, 600, 64, 8


def strings(name, size):
    return np.array([f"{name} {i}" for i in range(size)])


def tower(ids):
    return keras.Sequential(
        [
            keras.layers.StringLookup(vocabulary=list(ids)),
            keras.layers.Embedding(len(ids) + 1, DIM),
        ]
    )


USER_IDS, ITEM_IDS = strings("user", USERS), strings("item", ITEMS)
RNG = np.random.default_rng(0)
DRAWN = {
    "user": RNG.choice(USER_IDS, ROWS),
    "item": RNG.choice(ITEM_IDS, ROWS),
    "request": RNG.integers(0, 16, ROWS),
}
EMBEDDINGS = {
    name: RNG.normal(size=[size, DIM]).astype(np.float32)
    for name, size in (("user", USERS), ("item", ITEMS))
}
LISTS = tf.RaggedTensor.from_row_lengths(RNG.choice(ITEM_IDS, 2 * USERS), [2] * USERS)


class TwoTower(tn.models.Model):
    def __init__(self, task):
        super().__init__()
        self.user_tower, self.item_tower = tower(USER_IDS), tower(ITEM_IDS)
        self.task = task

    def compute_loss(self, features, training=False):
        return self.task(
            self.user_tower(features["user"]),
            self.item_tower(features["item"]),
            candidate_ids=features["item"],
            training=training,
        )


def rows():
    return tf.data.Dataset.from_tensor_slices(DRAWN)


def distribution(folder):
    return {
        "tf": tf,
        "keras": keras,
        "tasks": tn.tasks,
        "layers": tn.layers,
        "TwoTower": TwoTower,
        "optimizer": "sgd",
        "batches": rows().batch(16),
    }


def evaluation(folder):
    users, items = tower(USER_IDS), tower(ITEM_IDS)
    truth = tf.RaggedTensor.from_row_lengths(ITEM_IDS[:USERS], [1] * USERS)
    lists = {"positive_ids": truth, "excluded_ids": LISTS}
    held_out_rows = ({"user_id": USER_IDS}, lists)
    return {
        "np": np,
        "table": {**DRAWN, "time": RNG.permutation(ROWS)},
        "tf": tf,
        "callbacks": tn.callbacks,
        "items": tf.data.Dataset.from_tensor_slices({"item_id": ITEM_IDS}),
        "item_tower": lambda row: items(row["item_id"]),
        "user_tower": lambda row: users(row["user_id"]),
        "item_embeddings": EMBEDDINGS["item"],
        "item_ids": ITEM_IDS,
        "user_embeddings": EMBEDDINGS["user"],
        "held_out": truth,
        "seen": LISTS,
        "weights": np.ones(USERS, np.float32),
        "held_out_rows": tf.data.Dataset.from_tensor_slices(held_out_rows),
        "features": {"user_id": USER_IDS, "item_id": ITEM_IDS[:USERS]},
    }


def index(folder):
    return {
        "item_embeddings": EMBEDDINGS["item"],
        "item_ids": ITEM_IDS,
        "query_embeddings": EMBEDDINGS["user"],
        "some_query_embeddings": EMBEDDINGS["user"],
        "seen_ids": LISTS,
        "user_tower": tower(["ann", "bob"]),
        "titles": strings("title", ITEMS),
        "item_counts": np.arange(ITEMS),
    }


def live_index(folder):
    return {
        "user_tower": tower(["ann", "bob"]),
        "item_ids": ITEM_IDS,
        "item_embeddings": EMBEDDINGS["item"],
        "new_embeddings": EMBEDDINGS["item"][:1],
        "titles": strings("title", ITEMS),
        "prices": np.arange(ITEMS),
    }


def metrics(folder):
    names = {name: tf.constant(values) for name, values in DRAWN.items()}
    lists = tf.RaggedTensor.from_row_lengths(DRAWN["item"], [1] * ROWS)
    return {
        "tf": tf,
        "item_counts": collections.Counter(DRAWN["item"].tolist()),
        "queries": tf.random.normal([ROWS, DIM]),
        "items": tf.random.normal([ROWS, DIM]),
        "features": {**names, "items_of_user": lists},
        "training": True,
    }


def migrate_from_tfrs(folder):
    rows = {"user_id": DRAWN["user"], "movie_title": DRAWN["item"]}
    ratings = tf.data.Dataset.from_tensor_slices(rows)
    return {
        "user_model": tower(USER_IDS),
        "movie_model": tower(ITEM_IDS),
        "movies": tf.data.Dataset.from_tensor_slices(ITEM_IDS),
        "ratings": ratings,
        "held_out": ratings.take(16),
    }


def migrate_from_keras_rs(folder):
    return {
        "user_tower": tower(USER_IDS),
        "item_tower": tower(ITEM_IDS),
        "item_counts": collections.Counter(DRAWN["item"].tolist()),
        "batches": rows().batch(16),
        "items": tf.constant(ITEM_IDS),
        "users": tf.constant(USER_IDS),
    }


def mining(folder):
    model = TwoTower(tn.tasks.Retrieval())
    model.compile(keras.optimizers.SGD(0.1))
    candidates, queries = (
        tf.data.Dataset.from_tensor_slices((ids, ids)).batch(50)
        for ids in (ITEM_IDS, USER_IDS)
    )
    return {
        "item_tower": model.item_tower,
        "user_tower": model.user_tower,
        "items": tf.constant(ITEM_IDS),
        "item_ids": ITEM_IDS,
        "users": tf.constant(USER_IDS),
        "user_ids": USER_IDS,
        "history": LISTS,
        "item_features": {"item_id": ITEM_IDS},
        "candidates": candidates,
        "queries": queries,
        "model": model,
        "dataset": rows().batch(16),
    }


def models(folder):
    return {
        "keras": keras,
        "user_ids": list(USER_IDS),
        "item_ids": list(ITEM_IDS),
        "batches": rows().batch(16),
        "held_out": rows().batch(16).take(2),
    }


def performance(folder):
    return {
        "np": np,
        "tf": tf,
        "tn": tn,
        "model": TwoTower(tn.tasks.Retrieval()),
        "users": tf.constant(DRAWN["user"]),
        "items": tf.constant(DRAWN["item"]),
        "batch_size": 16,
    }


def negatives(folder):
    markets = np.arange(ITEMS) % 3
    drawn = np.arange(0, ITEMS, 100)
    with_history = {
        "user": USER_IDS,
        "item": ITEM_IDS[:USERS],
        "history": tf.RaggedTensor.from_row_lengths(ITEM_IDS[:USERS], [1] * USERS),
    }
    return {
        "tf": tf,
        "np": np,
        "num_users": USERS,
        "samplers": tn.samplers,
        "layers": tn.layers,
        "losses": tn.losses,
        "callbacks": tn.callbacks,
        "tasks": tn.tasks,
        "task": tn.tasks.Retrieval(),
        "queries": EMBEDDINGS["user"],
        "items": EMBEDDINGS["item"][:USERS],
        "features": {
            "user": tf.constant(["", "", *USER_IDS[2:]]),
            "user_number": tf.range(USERS),
            "item": ITEM_IDS[:USERS],
            "known_positives": LISTS,
            "negatives": {"item": ITEM_IDS[drawn]},
            "negatives_strata": markets[drawn],
            "negatives_row_strata": markets[:USERS],
        },
        "user_tower": tn.layers.OncePerKey(tower(USER_IDS)),
        "item_tower": tower(ITEM_IDS),
        "market_of_item": markets.tolist(),
        "training": True,
        "data": tn.data,
        "interactions": DRAWN,
        "item_ids": ITEM_IDS,
        "genres": RNG.integers(0, 5, ITEMS),
        "rows": tf.data.Dataset.from_tensor_slices(with_history),
        "table": np.stack([RNG.permutation(ITEM_IDS)[:50] for _ in range(USERS)]),
        "user_ids": USER_IDS,
    }


def quickstart(folder):
    """User n takes the items that have its remainder by 4, again and again."""
    users = RNG.integers(0, USERS, 1000)
    items = users % 4 + 4 * RNG.integers(0, 5, 1000)
    lines = [
        f"user {u},item {i},{t}"
        for t, (u, i) in enumerate(zip(users, items, strict=True))
    ]
    (folder / "log.csv").write_text("\n".join(["user,item,time", *lines]))
    return {}


def ranking(folder):
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        optimizer = keras.optimizers.SGD(0.1)
    return {"keras": keras, "strategy": strategy, "optimizer": optimizer}


def requests(folder):
    import pandas as pd

    table = {
        "user": DRAWN["user"],
        "item": DRAWN["item"],
        "request_id": np.sort(DRAWN["request"]),
        "time": np.arange(ROWS),
    }
    pd.DataFrame(table).to_parquet(folder / "log.parquet")
    return {
        "user_model": tower(USER_IDS),
        "item_model": tower(ITEM_IDS),
        "user_table": keras.layers.Embedding(USERS, DIM),
        "item_table": keras.layers.Embedding(ITEMS, DIM),
        "user_ids": tf.constant(RNG.integers(0, USERS, ROWS)),
        "item_ids": tf.constant(RNG.integers(0, ITEMS // 20, ROWS)),
    }


def data_engine(folder):
    import pandas as pd

    (folder / "events").mkdir()
    path = folder / "events" / "part-0.parquet"
    pd.DataFrame({**DRAWN, "t": np.arange(ROWS)}).to_parquet(path)
    items = pd.DataFrame({"item": ITEM_IDS, "kind": np.arange(len(ITEM_IDS)) % 5})
    items.to_parquet(folder / "items.parquet")
    users = pd.DataFrame({"user": USER_IDS, "kind": np.arange(len(USER_IDS)) % 5})
    users.to_parquet(folder / "users.parquet")
    return {"tn": tn, "tf": tf, "item_ids": ITEM_IDS}


def online(folder):
    frequency = tn.layers.StreamingFrequency(num_ids=100_000)
    frequency(tf.constant(ITEM_IDS), training=True)
    checkpoint = tf.train.Checkpoint(frequency=frequency)
    tf.train.CheckpointManager(checkpoint, str(folder / "state"), 1).save()
    return {"tn": tn, "tf": tf}


def serving(folder):
    index = tn.index.BruteForce(k=10).index(EMBEDDINGS["item"], ITEM_IDS)
    return {"user_tower": tower(["ann", "bob"]), "index": index}


def shards(folder):
    half = ITEMS // 2
    return {
        "user_tower": tower(["ann", "bob"]),
        "parts": [
            (ITEM_IDS[rows], EMBEDDINGS["item"][rows], strings("title", half))
            for rows in (slice(half), slice(half, 2 * half))
        ],
    }


def teachers(folder):
    drawn = {"user": RNG.choice(USER_IDS, 3000), "item": RNG.choice(ITEM_IDS, 3000)}
    return {
        "np": np,
        "interactions": drawn,
        "rows": rows(),
        "item_ids": ITEM_IDS,
        "new_items": strings("new item", 100),
    }


def towers(folder):
    items = {
        "item": ITEM_IDS,
        "genres": ["Action|Drama", "Drama", None] * (ITEMS // 3),
        "title": [f"The {name}" for name in ITEM_IDS],
        "released": np.datetime64("1995-11-22") + np.arange(ITEMS),
    }
    new = {**{name: column[:2] for name, column in items.items()}, "item": ["a", "b"]}
    interactions = {**DRAWN, "time": np.arange(ROWS)}
    numbered = {"user": DRAWN["user"], "item": DRAWN["item"], "row": np.arange(ROWS)}
    return {
        "np": np,
        "tn": tn,
        "keras": keras,
        "items": items,
        "users": {"user": USER_IDS, "age": [30, 40, None, 50] * (USERS // 4)},
        "interactions": interactions,
        "rows": tf.data.Dataset.from_tensor_slices(numbered),
        "new_items": new,
    }


def recommender(folder):
    rng = np.random.default_rng(0)
    user, item = rng.integers(0, 20, 400), rng.integers(0, 60, 400)
    return {
        "ratings": {
            "user": user,
            "item": item,
            "time": 1_500_000_000 + np.arange(400),
            "title": [f"Thing {i}" for i in item],
            "genre": [f"genre {i % 3}" for i in item],
        }
    }


SETUPS = {
    "docs/data_engine.md": data_engine,
    "docs/distribution.md": distribution,
    "docs/evaluation.md": evaluation,
    "docs/retrieval_index.md": index,
    "docs/live_index.md": live_index,
    "docs/metrics.md": metrics,
    "docs/migrate_from_keras_rs.md": migrate_from_keras_rs,
    "docs/migrate_from_tfrs.md": migrate_from_tfrs,
    "docs/mining.md": mining,
    "docs/models.md": models,
    "docs/negatives.md": negatives,
    "docs/online.md": online,
    "docs/performance.md": performance,
    "docs/quickstart.md": quickstart,
    "docs/ranking.md": ranking,
    "docs/requests.md": requests,
    "docs/serving.md": serving,
    "docs/shards.md": shards,
    "docs/teachers.md": teachers,
    "docs/recommender.md": recommender,
    "docs/towers.md": towers,
}


def _check_evaluation(names):
    loss = names["compute_loss"](names["features"], training=False)
    assert np.isfinite(loss)
    result = dict(zip(names["metric"].names, names["metric"].result(), strict=True))
    assert 0.0 <= result["corpus/recall@100"] <= 1.0
    user, time = names["table"]["user"], names["table"]["time"]
    latest = [max(np.flatnonzero(user == one), key=lambda n: time[n]) for one in user]
    assert set(names["last"]) == set(latest)
    assert sorted([*names["last"], *names["rest"]]) == list(range(ROWS))


def _check_data_engine(names):
    assert names["counts"].sum() == ROWS
    assert sum(len(batch["user"]) for batch in names["batches"]) == ROWS
    assert 0 < len(names["held_out"]) < ROWS / 2
    assert names["index"].searcher.num_rows == len(ITEM_IDS)
    assert len(names["users"]) == len(USER_IDS)
    assert len(names["report"]["settings"]) == 4
    assert 0 <= names["figures"]["corpus/recall@100"] <= 1


def _check_online(names):
    log_q = names["correction"](tf.constant(ITEM_IDS[:1])).numpy()
    np.testing.assert_allclose(log_q, -np.log(ITEMS), rtol=1e-5)


def _check_index(names):
    assert names["answer"]["ids"].shape == [2, 10]
    assert b"item 3" not in names["answer"]["ids"].numpy()[1]


def _check_live_index(names):
    assert names["answer"].ids.tolist() == [["sofa", "lamp"]]
    assert len(names["index"]) == 3 and len(names["model"].items) == ITEMS


def _check_metrics(names):
    task = tn.tasks.Retrieval(negative_metrics=[names["FalseGradient"]()])
    features = names["features"]
    loss = task(
        names["queries"],
        names["items"],
        candidate_ids=features["item"],
        measured_positive_ids=features["items_of_user"],
    )
    assert np.isfinite(loss) and np.isfinite(names["loss"])


def _check_migrate_from_tfrs(names):
    (metric,) = names["model"].task.factorized_metrics
    assert "factorized_top_k/top_10_categorical_accuracy" in metric.names
    titles = names["titles"].numpy()
    assert titles.shape == (1, 10) and not {b"item 1", b"item 7"} & set(titles[0])
    assert names["answer"]["ids"].shape == [1, 5]


def _check_migrate_from_keras_rs(names):
    assert names["ids"].shape == [USERS, 3]
    assert names["model"].optimizer.iterations.numpy() == 2 * ROWS // 16


def _check_models(names):
    ids = tf.constant(ITEM_IDS[:3])
    found, expected = (names[name].item_tower(ids) for name in ("other", "model"))
    np.testing.assert_array_equal(found, expected)


def _check_negatives(names):
    batch = next(iter(names["dataset"]))
    assert batch["mined"]["item"].shape == [USERS, 8]
    assert batch["negatives"]["item"].shape == [1024]


def _check_performance(names):
    batches = list(names["batches"])
    assert [len(batch["user"]) for batch in batches] == [16] * 4
    pairs = [
        (user, item)
        for batch in batches
        for user, item in zip(
            *(batch[n].numpy() for n in ("user", "item")), strict=True
        )
    ]
    expected = zip(*(names[n].numpy() for n in ("users", "items")), strict=True)
    assert sorted(pairs) == sorted(expected)
    assert names["model"].optimizer.iterations.numpy() == 4


def _check_quickstart(names):
    assert names["answer"]["ids"].shape == [1, 10]
    user = names["users"][:1]
    answered = set(names["answer"]["ids"].numpy()[0])
    assert not answered & set(names["had"](user).values.numpy())
    assert len(names["future"]) == USERS  # A row of each.
    assert 0 <= names["recall"](names["mixed"]) <= 1


def _check_ranking(names):
    x, y = np.ones([4, 3], np.float32), np.ones([4, 1], np.float32)
    names["ranker"].fit(x, y, verbose=0)


def _check_requests(names):
    for batch in names["batches"]:
        assert np.isfinite(names["compute_loss"](batch, training=True))
    assert len(names["candidates"]) < ROWS
    gathered = names["task"](
        names["user_table"](names["user_ids"]),
        names["item_table"](names["item_ids"]),
        candidate_ids=names["item_ids"],
        query_keys=names["user_ids"],
    )
    np.testing.assert_allclose(names["loss"], gathered, rtol=1e-5)


def _check_teachers(names):
    batch = next(iter(names["dataset"]))
    assert batch["target_ids"].shape.as_list() == [ROWS, None]
    np.testing.assert_allclose(
        tf.reduce_sum(batch["target_weights"], axis=1), np.ones(ROWS), rtol=1e-5
    )
    assert "new item 5" in names["taught"].item_ids
    assert names["ids"].shape == (1, 10)


def _check_distribution(names):
    assert names["model"].optimizer.iterations.numpy() == 2 * ROWS // 16


CHECKS = {
    "docs/data_engine.md": _check_data_engine,
    "docs/distribution.md": _check_distribution,
    "docs/evaluation.md": _check_evaluation,
    "docs/retrieval_index.md": _check_index,
    "docs/live_index.md": _check_live_index,
    "docs/metrics.md": _check_metrics,
    "docs/migrate_from_keras_rs.md": _check_migrate_from_keras_rs,
    "docs/migrate_from_tfrs.md": _check_migrate_from_tfrs,
    "docs/models.md": _check_models,
    "docs/negatives.md": _check_negatives,
    "docs/online.md": _check_online,
    "docs/performance.md": _check_performance,
    "docs/quickstart.md": _check_quickstart,
    "docs/ranking.md": _check_ranking,
    "docs/requests.md": _check_requests,
    "docs/teachers.md": _check_teachers,
}
