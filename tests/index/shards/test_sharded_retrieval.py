"""A corpus in shards answers as one index of all of it."""

import numpy as np
import pytest
import tensorflow as tf
from split_corpus import (
    USERS_TABLE,
    WIDTH,
    Corpus,
    check,
    export_tower,
    loaded,
    normal,
    parts_of,
)

from tfrs_negatives.data import positives_of
from tfrs_negatives.index import (
    BruteForce,
    LiveIndex,
    export_live_retrieval,
    export_query_tower,
    export_retrieval,
    load_retrieval,
    shard_query,
)

NUM = 40


@pytest.fixture(scope="module")
def corpus():
    return Corpus(1, NUM)


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    return export_tower(tmp_path_factory.mktemp("tower") / "tower")


@pytest.fixture(scope="module")
def shards(corpus, tower, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    parts = parts_of(NUM, 3, np.random.default_rng(0))
    return [corpus.export(folder / str(n), tower, rows) for n, rows in enumerate(parts)]


@pytest.fixture(scope="module")
def model(tower, shards):
    model = loaded(tower, shards)
    yield model
    model.release()


def test_answers_are_those_of_one_index(corpus, model):
    rng = np.random.default_rng(3)
    for round_number in range(15):
        users = rng.integers(0, len(USERS_TABLE), 3)
        # A shard may have fewer items than are asked for.
        k = int(rng.choice([1, 7, 25, NUM + 5]))
        below = rng.integers(0, 101, 3)
        discounts = np.float32(rng.choice([0, 0.5, 1], 3))
        # Of no, one and several items; the second row of a pair may have none.
        gone = [rng.choice(corpus.ids, n, replace=False) for n in rng.choice(4, 3)]
        width = max(1, *map(len, gone))
        options = {
            "where": [f"price < {bound}" for bound in below],
            "popularity_discount": discounts,
            "history": [[*ids, *[""] * (width - len(ids))] for ids in gone],
        }
        name = "serving_default"
        if round_number % 3 == 0:
            name = "with_exclusions"
            more = rng.choice(corpus.ids, [3, 2])
            options["exclusions"] = more.tolist()
            gone = [[*ids, *others] for ids, others in zip(gone, more, strict=True)]
        answer = model.signatures[name](user=users, k=k, **options)
        assert list(answer)[:2] == ["ids", "scores"]
        assert answer["ids"].shape == (3, k)
        assert answer["missing_shards"].shape == (3, 0)
        for row, user in enumerate(users):
            expected = corpus.best(
                USERS_TABLE[user], k, below[row], gone[row], discounts[row]
            )
            check(answer, row, expected)


def test_what_may_be_left_out(corpus, model):
    answer = model.signatures["serving_default"](user=[4])
    check(answer, 0, corpus.best(USERS_TABLE[4], 10))
    embeddings = model.signatures["embed_query"](user=[4])["embeddings"]
    np.testing.assert_array_equal(embeddings, USERS_TABLE[4:5])


def test_histories_are_left_out(corpus, tmp_path):
    users, items = [1, 1, 5], [*corpus.ids[:2], "no item"]
    histories = positives_of({"user": users, "item": items}, "user", "item")
    tower = export_query_tower(
        tmp_path / "tower",
        lambda user: tf.gather(USERS_TABLE, user),
        query_signature=tf.TensorSpec([None], tf.int64, name="user"),
        histories=histories,
    )
    shards = [corpus.export(tmp_path / str(n), tower, range(n, NUM, 2)) for n in (0, 1)]
    model = loaded(tower, shards)
    serve = model.signatures["serving_default"]
    answer = serve(user=[1, 5, 2], k=NUM)
    check(answer, 0, corpus.best(USERS_TABLE[1], NUM, without=items))
    check(answer, 1, corpus.best(USERS_TABLE[5], NUM))
    check(answer, 2, corpus.best(USERS_TABLE[2], NUM))
    answer = serve(user=[1], k=NUM, exclude_history=False)
    check(answer, 0, corpus.best(USERS_TABLE[1], NUM))
    model.release()


def test_shards_that_are_saved_models(corpus, tower, tmp_path):
    """Of the form that does not change, with payload of several values an item."""
    parts = np.array_split(np.arange(NUM), 3)
    images = normal(9, NUM, 2)
    for n, rows in enumerate(parts):
        index = BruteForce().index(corpus.vectors[rows], corpus.ids[rows].tolist())
        titles = [corpus.titles[row] for row in rows]
        payload = {"title": titles, "image": images[rows]}
        export_retrieval(
            tmp_path / str(n), index=index, payload=payload, **shard_query(tower)
        )
    model = loaded(tower, [tmp_path / str(n) for n in range(3)])
    serve = model.signatures["serving_default"]
    answer = serve(user=[3, 4], k=9, history=[[corpus.ids[0]], [""]])
    for row, gone in enumerate([[corpus.ids[0]], []]):
        expected = corpus.best(USERS_TABLE[3 + row], 9, without=gone)
        check(answer, row, expected)
        rows = [corpus.ids.tolist().index(each) for each in expected[0]]
        np.testing.assert_array_equal(answer["image"][row], images[rows])
    with pytest.raises(ValueError, match="must be from 1 to"):
        serve(user=[3], k=NUM)
    with pytest.raises(ValueError, match="'where' is there where"):
        serve(user=[3], k=2, where="price < 3")
    model.release()


def test_a_query_without_an_embedding_gets_nothing(corpus, tower, shards, tmp_path):
    tower = export_query_tower(
        tmp_path / "tower", tf.identity, query_signature=tf.TensorSpec([None, WIDTH])
    )
    rows = np.arange(NUM)
    shards = [corpus.export(tmp_path / str(n), tower, rows[n::2]) for n in (0, 1)]
    model = loaded(tower, shards)
    query = np.concatenate([USERS_TABLE[:1], np.full([1, WIDTH], np.nan)])
    answer = model.signatures["serving_default"](query=np.float32(query), k=3)
    check(answer, 0, corpus.best(query[0], 3))
    assert np.isneginf(answer["scores"][1]).all()
    assert answer["ids"][1].numpy().tolist() == [b""] * 3
    model.release()


def test_a_change_of_a_shard_is_found(corpus, tower, tmp_path):
    rows = np.arange(NUM)
    paths = [corpus.export(tmp_path / str(n), tower, rows[n::2]) for n in (0, 1)]
    parts = [load_retrieval(path, writable=True) for path in paths]
    model = load_retrieval(tower, shards=parts, shard_seconds=60.0)
    vector = 9 * USERS_TABLE[:1]
    parts[1].upsert(["new"], vector, {"title": ["N"]}, {"price": [1]}, popularity=[-1])
    answer = model.signatures["serving_default"](user=[0], k=1)
    assert answer["ids"].numpy().tolist() == [[b"new"]]
    model.release()
    for part in parts:
        part.release()


@pytest.mark.parametrize("where", ["price <", "none == 1"])
def test_a_wrong_request_is_an_error(model, where):
    with pytest.raises(ValueError, match="where|filter|attribute"):
        model.signatures["serving_default"](user=[1], k=3, where=where)
    with pytest.raises(ValueError, match="`k` must be"):
        model.signatures["serving_default"](user=[1], k=0)
    with pytest.raises(ValueError, match="one value per query"):
        model.signatures["serving_default"](user=[1, 2, 3], where=["", ""])


def test_shards_of_another_model_and_others_that_do_not_fit(
    corpus, tower, shards, tmp_path
):
    other = export_tower(tmp_path / "other")
    stranger = corpus.export(tmp_path / "stranger", other, range(9))
    with pytest.raises(ValueError, match="not one of this model.*shard_query"):
        loaded(tower, [shards[0], stranger])
    one = {"ids": ["a"], "embeddings": [[1.0] * WIDTH], **shard_query(tower)}
    differs = export_live_retrieval(tmp_path / "differs", **one)
    with pytest.raises(ValueError, match="must be alike"):
        loaded(tower, [shards[0], differs])
    with pytest.raises(ValueError, match="twice"):
        loaded(tower, shards[:1] * 2)
    with pytest.raises(ValueError, match="are in shards, received 0"):
        load_retrieval(tower)
    with pytest.raises(ValueError, match="in the export itself, received 1"):
        load_retrieval(shards[0], shards=[load_retrieval(shards[1])])
    with pytest.raises(ValueError, match="which has items of its own"):
        shard_query(shards[0])
    with pytest.raises(ValueError, match="of all shards, received counts"):
        export_live_retrieval(tmp_path / "counts", popularity=[3], **one)
    assert not (tmp_path / "counts").exists()


def test_what_a_tower_alone_cannot_be(tmp_path):
    unknown = tf.function(lambda x: tf.reshape(x, tf.shape(x)[:2] + 0))
    for options, message in [
        ({"k": 0}, "`k` must be"),
        ({"query_signature": {"where": tf.TensorSpec([None])}}, "where"),
        ({"history_items": "query"}, "int64 or string|must name a feature"),
        ({"versioned": True, "overwrite": True}, "Leave one out"),
    ]:
        given = {"query_signature": tf.TensorSpec([None, WIDTH]), **options}
        with pytest.raises(ValueError, match=message):
            export_query_tower(tmp_path / "tower", tf.identity, **given)
    with pytest.raises(ValueError, match="of a width that is known"):
        export_query_tower(
            tmp_path / "tower", unknown, query_signature=tf.TensorSpec([None, None])
        )
    assert not (tmp_path / "tower").exists()


def test_versions_of_a_tower(tmp_path):
    for number in (1, 2):
        path = export_tower(tmp_path / "towers", versioned=True)
        assert path.endswith(f"towers/{number}")
    names = [
        shard_query(folder)["query_signature"].name
        for folder in (tmp_path / "towers", path, tmp_path / "towers" / "1")
    ]
    assert names[0] == names[1] != names[2]


def test_recall_of_scann_in_shards_is_at_least_that_of_one(tmp_path):
    pytest.importorskip("scann")
    rng = np.random.default_rng(5)
    centres = normal(6, 60, 16)
    points = centres[rng.integers(0, 60, 8_000)] + 0.4 * normal(7, 8_000, 16)
    queries = centres[rng.integers(0, 60, 100)] + 0.4 * normal(8, 100, 16)
    points, queries = np.float32(points), np.float32(queries)
    tower = export_query_tower(
        tmp_path / "tower", tf.identity, query_signature=tf.TensorSpec([None, 16])
    )
    shards = [
        export_live_retrieval(
            tmp_path / str(n),
            ids=range(n, 8_000, 2),
            embeddings=points[n::2],
            approximate_from=0,
            **shard_query(tower),
        )
        for n in (0, 1)
    ]
    model = loaded(tower, shards)
    found = model.signatures["serving_default"](query=queries, k=10)["ids"].numpy()
    model.release()
    one = LiveIndex.create(tmp_path / "one", range(8_000), points, approximate_from=0)
    best = np.argsort(-(queries.astype(np.float64) @ points.T), axis=1)[:, :10]

    def recall(ids):
        pairs = zip(ids, best, strict=True)
        return np.mean([len(set(a) & set(b)) / 10 for a, b in pairs])

    assert recall(found) >= recall(one.search(queries, 10).ids) - 1e-9 > 0.9
    one.close()
