"""An export whose items change: it answers as the other form does, and as loops do."""

import json
import os
import random
import shutil
import subprocess
import sys

import filter_oracle
import numpy as np
import pytest
import tensorflow as tf
from index_oracles import normal

from tfrs_negatives.data import positives_of
from tfrs_negatives.index import (
    BruteForce,
    LiveIndex,
    export_live_retrieval,
    export_retrieval,
    load_retrieval,
)

NUM, WIDTH, USERS = 40, 5, 12
ITEMS = normal(1, NUM, WIDTH)
TABLE = normal(2, USERS, WIDTH)
COUNTS = np.arange(NUM) + 1
IDS = {
    "integers": np.arange(NUM) - 7,
    "strings": np.array([f"é {n}" for n in range(NUM)]),
}


class Tower(tf.Module):
    """A user's row of a table, and a number; what the user brings is ignored."""

    def __init__(self):
        super().__init__()
        self.users = tf.Variable(TABLE)

    def __call__(self, features):
        return tf.gather(self.users, features["user"]) + features["shift"]


def signature(ids):
    return {
        "user": tf.TensorSpec([None], tf.int64),
        "shift": tf.TensorSpec([None, 1], tf.float32),
        "history": tf.TensorSpec([None, None], ids),
    }


def both_forms(folder, kind, **options):
    """Exports of the same items in both forms."""
    ids = IDS[kind]
    given = {
        "query_signature": signature(tf.string if kind == "strings" else tf.int64),
        "payload": {"title": [f"title {n}" for n in range(NUM)], "rank": range(NUM)},
        "popularity": COUNTS,
        "histories": positives_of({"user": [1, 1, 1, 2], "item": ids[[3, 4, 9, 3]]}),
        "history_feature": "user",
        "history_items": "history",
        "optional_features": {"history": [], "shift": [0.5]},
        **options,
    }
    index = BruteForce(k=7).index(ITEMS, tf.constant(ids))
    payload = {n: np.array(v) for n, v in given["payload"].items()}
    still = export_retrieval(
        folder / "still", Tower(), index, **{**given, "payload": payload}
    )
    live = export_live_retrieval(
        folder / "live", Tower(), ids, ITEMS, k=7, **given, approximate_from=None
    )
    return load_retrieval(still), load_retrieval(live)


def check_same(still, live, name="serving_default", **inputs):
    expected = still.signatures[name](**inputs)
    found = live.signatures[name](**inputs)
    assert set(found) == set(expected)
    for output, values in expected.items():
        values = values.numpy()
        if values.dtype.kind == "f":
            np.testing.assert_allclose(
                found[output].numpy(), values, rtol=1e-4, atol=1e-4
            )
        else:
            assert found[output].numpy().tolist() == values.tolist()
    return found


@pytest.mark.parametrize(
    "kind",
    [
        "strings",
        pytest.param(
            "integers", marks=pytest.mark.slow(reason="the same with other ids")
        ),
    ],
)
def test_answers_as_the_other_form(tmp_path, kind):
    still, live = both_forms(tmp_path, kind)
    users, shift = tf.constant([1, 2, 5], tf.int64), tf.constant([[0.0], [1.0], [-2.0]])
    found = check_same(still, live, user=users, shift=shift)
    assert found["ids"].shape == (3, 7)
    found = check_same(still, live, user=users)  # The shift that stands for all.
    ids = tf.constant(IDS[kind])
    for discount in (0.5, [0.0, 1.0, -2.0]):
        check_same(still, live, user=users, k=3, popularity_discount=discount)
    for keeps in (False, [True, False, True]):
        check_same(still, live, user=users, k=NUM, exclude_history=keeps)
    brought = tf.stack([ids[:2], ids[5:7], ids[9:11]])
    check_same(still, live, user=users, history=brought, k=20)
    check_same(still, live, user=users, history=brought[:1], k=20)
    gone = tf.stack([ids[8:12], ids[:4], ids[20:24]])
    found = check_same(
        still, live, "with_exclusions", user=users, exclusions=gone, k=NUM
    )
    # Three of the history and three more: their places are empty.
    assert np.isneginf(found["scores"].numpy()).sum(axis=1).tolist() == [6, 4, 4]
    check_same(still, live, "embed_query", user=users, shift=shift)
    live.release()


@pytest.fixture(scope="module")
def filtered(tmp_path_factory):
    """Columns, ids and embeddings of an export, and its path."""
    rng = random.Random(3)
    columns = filter_oracle.items(rng, NUM)
    path = export_live_retrieval(
        tmp_path_factory.mktemp("filtered") / "model",
        tf.identity,
        IDS["strings"],
        ITEMS,
        query_signature=tf.TensorSpec([None, WIDTH], name="query"),
        payload={"rank": range(NUM)},
        attributes=columns,
        kinds=filter_oracle.KINDS,
    )
    return columns, path


def ranks(query, passing, k):
    """Numbers of the k best items that pass, by loops."""
    scores = [float(np.float64(query) @ np.float64(item)) for item in ITEMS]
    order = sorted(range(NUM), key=lambda n: -scores[n])
    return [n for n in order if passing[n]][:k]


def test_filters_of_each_row(filtered):
    columns, path = filtered
    model, rng = load_retrieval(path), random.Random(4)
    serve = model.signatures["serving_default"]
    queries = normal(5, 4, WIDTH)
    for _ in range(60):
        nodes = [filter_oracle.tree(rng, 2) for _ in range(3)]
        texts = [filter_oracle.text(rng, node) for node in nodes]
        # The first again, and one without.
        texts, nodes = [*texts[:2], texts[0], ""], [*nodes[:2], nodes[0], None]
        answer = serve(query=queries, k=15, where=texts)
        for row, node in enumerate(nodes):
            passing = filter_oracle.expected(node, columns) if node else [True] * NUM
            best = ranks(queries[row], passing, 15)
            filled = np.isfinite(answer["scores"].numpy()[row])
            assert filled.tolist() == [n < len(best) for n in range(15)]
            assert answer["rank"].numpy()[row][filled].tolist() == best
    one = serve(query=queries, k=3, where="price > 0")
    four = serve(query=queries, k=3, where=["price > 0"] * 4)
    assert one["ids"].numpy().tolist() == four["ids"].numpy().tolist()
    model.release()


def test_a_query_without_a_number_has_no_answer_and_the_others_theirs(filtered):
    model = load_retrieval(filtered[1])
    queries = normal(5, 3, WIDTH)
    queries[1, 0] = np.nan
    answer = model.signatures["serving_default"](query=queries, k=4)
    filled = np.isfinite(answer["scores"].numpy())
    assert filled.tolist() == [[True] * 4, [False] * 4, [True] * 4]
    assert answer["ids"].numpy()[1].tolist() == [b""] * 4
    model.release()


def test_changes_are_found_by_the_next_query_and_by_readers(tmp_path):
    _, reader = both_forms(tmp_path, "integers")
    writer = load_retrieval(tmp_path / "live", writable=True)
    user = {"user": tf.constant([3], tf.int64), "k": 3}
    before = writer.signatures["serving_default"](**user)["ids"].numpy().tolist()
    best = np.float32(100 * TABLE[3])
    payload = {"title": ["new"], "rank": [99]}
    assert writer.upsert([77], [best], payload, popularity=[-2.0]) == 1
    assert writer.delete(before[0][:1]) == 1
    answer = writer.signatures["serving_default"](**user, popularity_discount=2.0)
    assert answer["ids"].numpy()[0, 0] == 77
    assert answer["title"].numpy()[0, 0] == b"new"
    query = TABLE[3] + np.float32(0.5)
    expected = float(query @ best) + 4.0
    np.testing.assert_allclose(answer["scores"].numpy()[0, 0], expected, rtol=1e-5)
    # A user's history has ids, which count from when there is such an item.
    users = {"user": tf.constant([1], tf.int64), "k": 5}
    assert writer.delete([-4]) == 1  # Item 3.
    writer.upsert([-4], [best], payload, popularity=[-2.0])
    answer = writer.signatures["serving_default"](**users)
    assert -4 not in answer["ids"].numpy()[0]
    unchanged = reader.signatures["serving_default"](**user)["ids"].numpy().tolist()
    assert unchanged == before
    assert reader.refresh() == 4
    found = reader.signatures["serving_default"](**user)["ids"].numpy()[0].tolist()
    assert found[:2] in ([77, -4], [-4, 77]) and before[0][0] not in found
    for model in (writer, reader):
        model.release()


def test_k_may_exceed_the_number_of_items(filtered):
    model = load_retrieval(filtered[1])
    answer = model.signatures["serving_default"](query=ITEMS[:1], k=NUM + 5)
    assert np.isneginf(answer["scores"].numpy()).sum() == 5
    assert answer["ids"].numpy()[0, -5:].tolist() == [b""] * 5
    model.release()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"where": "price <"}, "expected a number or a text"),
        ({"where": "nothing == 1"}, "nothing"),
        ({"where": "price == 'a'"}, "price"),
        ({"where": "(" * 40 + "price > 1" + ")" * 40}, "at most 32 nested"),
        ({"where": "price > 1 or " * 400 + "price > 1"}, "at most 4,096 characters"),
        ({"where": ["", ""]}, r"one value per query \(3\), or one, received 2"),
        ({"where": 3}, "must be one string"),
        ({"where": [b"\xff"]}, "must be UTF-8"),
        ({"k": 0}, "at least 1, received 0"),
        ({"query": ITEMS[0]}, "must have shape"),
        ({"exclusions": [["a"]]}, "Expected the inputs"),
        ({"popularity_discount": 1.0}, "the export was given `popularity=`"),
    ],
)
def test_bad_inputs(filtered, inputs, message):
    model = load_retrieval(filtered[1])
    with pytest.raises(ValueError, match=message):
        model.signatures["serving_default"](**{"query": ITEMS[:3], **inputs})
    model.release()


def test_bad_changes_change_nothing(tmp_path):
    _, reader = both_forms(tmp_path, "strings")
    reader.release()
    model = load_retrieval(tmp_path / "live", writable=True)
    good = {
        "ids": ["a", "b"],
        "embeddings": np.ones([2, WIDTH]),
        "payload": {"title": ["A", "B"], "rank": [1, 2]},
        "popularity": [-1.0, -2.0],
    }
    for change, message in (
        ({"embeddings": np.ones([2, WIDTH + 1])}, "must be 5 wide"),
        ({"embeddings": [[np.nan] * WIDTH] * 2}, "must be finite"),
        ({"embeddings": np.ones([1, WIDTH])}, "one value per indexed candidate"),
        ({"ids": [1, 2]}, "must all be strings"),
        ({"popularity": None}, "must be log q of each item"),
        ({"popularity": [1.0, -1.0]}, "at most 0"),
        ({"popularity": [np.nan, -1.0]}, "must be finite"),
        ({"payload": {"title": ["A", "B"]}}, "dict of the columns"),
        ({"attributes": {"price": [1, 2]}}, "dict of the columns"),
    ):
        with pytest.raises(ValueError, match=message):
            model.upsert(**{**good, **change})
    assert model.items.statistics()["sequence"] == 0
    model.release()
    reader = load_retrieval(tmp_path / "live")
    with pytest.raises(ValueError, match="open for reading only"):
        reader.upsert(**good)
    reader.release()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "`k` must be a positive int"),
        ({"embeddings": normal(0, NUM, 3)}, "as wide as the items'"),
        ({"ids": np.arange(NUM) % 3}, "must differ from each other"),
        ({"payload": {"ids": range(NUM)}}, "names of their own|names must be"),
        ({"payload": {"a b": range(NUM)}}, "names must be identifiers"),
        ({"attributes": {"in": range(NUM)}}, "names that a filter can hold"),
        ({"popularity": np.ones(3)}, "one value per indexed candidate"),
        ({"histories": positives_of({"user": [1], "item": ["a"]})}, "can never equal"),
        ({"history_feature": "query"}, "without `histories`"),
        ({"history_items": "query"}, "must name a feature of items' ids"),
        ({"versioned": True, "overwrite": True}, "Leave one out"),
        ({"approximate_from": -1}, "must be None or an integer"),
        ({"soar_lambda": 0}, "must be None or a number above 0"),
        ({"query_signature": tf.TensorSpec([None, 5], name="where")}, "'where'"),
    ],
)
def test_bad_exports_write_nothing(tmp_path, options, message):
    query = tf.TensorSpec([None], tf.int64, name="query")
    if "embeddings" in options or "query_signature" in options:
        query = tf.TensorSpec([None, WIDTH], name="query")
    given = {
        "ids": np.arange(NUM),
        "embeddings": ITEMS,
        "query_signature": query,
        **options,
    }
    with pytest.raises(ValueError, match=message):
        export_live_retrieval(tmp_path / "model", tf.identity, **given)
    assert list(tmp_path.iterdir()) == []


def export_identity(path, ids=("a", "b"), **options):
    return export_live_retrieval(
        path,
        tf.identity,
        ids,
        np.eye(2),
        query_signature=tf.TensorSpec([None, 2], name="query"),
        **options,
    )


def test_an_export_whose_items_changed_is_never_replaced(tmp_path):
    path = export_identity(tmp_path / "m")
    with pytest.raises(ValueError, match="Pass overwrite=True"):
        export_identity(path)
    # Opened for writing, and yet as it was written.
    load_retrieval(path, writable=True).release()
    assert export_identity(path, ("c", "d"), overwrite=True) == path
    model = load_retrieval(path, writable=True)
    with pytest.raises(ValueError, match="one writer, and process .* writes there"):
        export_identity(path, overwrite=True)
    with pytest.raises(ValueError, match="one writer"):
        load_retrieval(path, writable=True)
    answer = model.signatures["serving_default"](query=[[1.0, 0.0]], k=1)
    assert answer["ids"].numpy().tolist() == [[b"c"]]
    model.upsert(["e"], [[3.0, 3.0]])
    model.release()
    with pytest.raises(ValueError, match="added or changed since"):
        export_identity(path, overwrite=True)
    model = load_retrieval(path)
    assert len(model.items) == 3
    model.release()
    assert [name for name in os.listdir(tmp_path) if name != "m"] == []


def test_versions(tmp_path):
    for number in ("1", "2"):
        path = export_identity(tmp_path / "m", versioned=True)
        assert path == str(tmp_path / "m" / number)
    model = load_retrieval(tmp_path / "m")
    assert model.path.endswith("2")
    model.release()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("another's items", "is the index of another export: its index_id must be"),
        ("no items", "must be a live index, and has no live_index.json"),
        ("a cut snapshot", "is damaged"),
        ("a changed tower", "truncated or changed"),
        ("a changed description", "another SHA-256"),
        ("a later format", "received .* of format 6"),
    ],
)
def test_damage(tmp_path, damage, message):
    path = export_identity(tmp_path / "m")
    items = os.path.join(path, "items")
    marker = os.path.join(path, "assets.extra", "tfrs_negatives.json")
    if damage in ("another's items", "no items"):
        shutil.rmtree(items)
    if damage == "another's items":
        LiveIndex.create(items, ["a", "b"], np.eye(2)).close()
    if damage == "a cut snapshot":
        (snapshot,) = (n for n in os.listdir(items) if n.startswith("snapshot"))
        os.truncate(os.path.join(items, snapshot, "0.values.npy"), 100)
    if damage == "a changed tower":
        with open(os.path.join(path, "saved_model.pb"), "ab") as file:
            file.write(b"x")
    if damage in ("a changed description", "a later format"):
        with open(marker) as file:
            description = json.load(file)
        change = {"k": 3} if damage == "a changed description" else {"format": 6}
        with open(marker, "w") as file:
            json.dump({**description, **change}, file)
    with pytest.raises(ValueError, match=message):
        load_retrieval(path)


def test_an_export_without_live_items_is_not_writable(tmp_path):
    index = BruteForce().index(np.eye(2, dtype=np.float32))
    spec = tf.TensorSpec([None, 2], name="query")
    path = export_retrieval(tmp_path / "m", tf.identity, index, query_signature=spec)
    with pytest.raises(ValueError, match="expected an export of `export_live_ret"):
        load_retrieval(path, writable=True)
    with pytest.raises(ValueError, match="`export_live_retrieval` wrote the export"):
        load_retrieval(path).signatures["serving_default"](query=np.eye(2), where="a")


@pytest.mark.slow(reason="a process of its own")
def test_another_process_answers_the_same_without_keras(tmp_path):
    path = export_identity(tmp_path / "m")
    code = (
        "import sys\n"
        "from tfrs_negatives.index import load_retrieval\n"
        "model = load_retrieval(sys.argv[1])\n"
        "answer = model.signatures['serving_default'](query=[[1.0, 2.0]], k=2)\n"
        "assert answer['ids'].numpy().tolist() == [[b'b', b'a']]\n"
        "unwanted = {'tfrs_negatives._keras', 'scann.scann_ops.py.scann_ops'}\n"
        "assert not unwanted & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
