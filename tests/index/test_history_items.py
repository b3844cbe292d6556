"""What a request says that its user has, and features that a request may leave out."""

import json
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
from index_oracles import as_list, best, normal

from tfrs_negatives.index import BruteForce, export_retrieval, load_retrieval

NUM, WIDTH = 30, 4
CANDIDATES = normal(1, NUM, WIDTH)
IDS = [f"item {n}" for n in range(NUM)]
VECTORS = normal(2, 3, WIDTH)
SIGNATURE = {
    "vector": tf.TensorSpec([None, WIDTH], tf.float32),
    "history": tf.TensorSpec([None, None], tf.string),
    "shift": tf.TensorSpec([None], tf.float32),
}


def tower(features):
    """A history moves a query by its length; one row of either stands for all."""
    given = tf.reduce_sum(
        tf.cast(tf.strings.length(features["history"]) > 0, tf.float32), axis=1
    )
    return features["vector"] * (1 + given + features["shift"])[:, tf.newaxis]


def export(path, **options):
    index = BruteForce(k=5).index(CANDIDATES, IDS)
    given = {
        "query_signature": SIGNATURE,
        "history_items": "history",
        "optional_features": {"history": [], "shift": 0.0},
    }
    return export_retrieval(path, tower, index, **{**given, **options})


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return export(tmp_path_factory.mktemp("history_items") / "model")


HISTORIES = [["item 3", "item 5"], ["item 7", ""], ["", "gone"]]


def check(found, k, histories, lengths=(0, 0, 0), left_out=True):
    queries = VECTORS * (1 + np.float32(lengths))[:, np.newaxis]
    excluded = histories if left_out else [[]] * 3
    scores, ids = best(queries, CANDIDATES, k, IDS, excluded, "")
    assert as_list(found["ids"]) == ids
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-5, atol=1e-5)


def test_what_a_request_brings_is_left_out(path):
    serve = load_retrieval(path).signatures["serving_default"]
    history = tf.constant(HISTORIES)
    check(serve(vector=VECTORS, history=history, k=9), 9, HISTORIES, (2, 1, 1))
    found = serve(vector=VECTORS, history=history, k=9, exclude_history=False)
    check(found, 9, HISTORIES, (2, 1, 1), left_out=False)
    each = tf.constant([True, False, True])
    found = serve(vector=VECTORS, history=history, k=9, exclude_history=each)
    check(found, 9, [HISTORIES[0], [], HISTORIES[2]], (2, 1, 1))
    one = tf.constant([["item 1"]])
    check(serve(vector=VECTORS, history=one, k=4), 4, [["item 1"]] * 3, (1, 1, 1))
    exclusions = tf.constant([["item 2"], ["item 8"], ["item 9"]])
    found = load_retrieval(path).signatures["with_exclusions"](
        vector=VECTORS, history=history, exclusions=exclusions, k=9
    )
    both = [[*HISTORIES[n], item] for n, item in enumerate(exclusions[:, 0].numpy())]
    both = [[one if isinstance(one, str) else one.decode() for one in r] for r in both]
    check(found, 9, both, (2, 1, 1))


def test_features_may_be_left_out(path):
    model = load_retrieval(path)
    assert model.description["optional"] == {"history": [], "shift": 0.0}
    check(model.signatures["serving_default"](vector=VECTORS), 5, [[]] * 3)
    shift = tf.constant([1.0, 0.0, 2.0])
    found = model.signatures["serving_default"](vector=VECTORS, shift=shift)
    check(found, 5, [[]] * 3, (1, 0, 2))
    embeddings = model.signatures["embed_query"](vector=VECTORS)["embeddings"]
    np.testing.assert_allclose(embeddings, VECTORS, rtol=1e-6)


def test_over_rest(path):
    from tfrs_negatives.serving import Server

    server = Server(path, port=0, grpc_port=0)
    server.start()
    try:
        for inputs, histories, lengths in (
            ({}, [[]] * 3, (0, 0, 0)),
            ({"history": HISTORIES}, HISTORIES, (2, 1, 1)),
            ({"history": [["item 1"]]}, [["item 1"]] * 3, (1, 1, 1)),
        ):
            body = json.dumps({"inputs": {"vector": VECTORS.tolist(), **inputs}})
            url = f"http://127.0.0.1:{server.port}/v1/models/retrieval:predict"
            request = urllib.request.Request(url, body.encode())
            with urllib.request.urlopen(request, timeout=30) as answer:
                found = json.load(answer)["outputs"]
            found["ids"] = tf.constant(found["ids"])
            check(found, 5, histories, lengths)
    finally:
        server.stop()


BAD = [
    ({"history_items": "basket"}, "`history_items` must name .* 'basket', none of"),
    ({"history_items": "vector"}, "`history_items` must name .* 'vector', TensorSpec"),
    ({"optional_features": {"basket": []}}, "'basket'.*no such feature"),
    ({"optional_features": {"vector": [1.0]}}, "'vector'.*expected shape"),
    ({"optional_features": {"shift": "x"}}, "`optional_features` must have a row"),
    (
        {"optional_features": {"vector": [0.0] * 4, "history": [], "shift": 0.0}},
        "must leave a feature",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_arguments_write_nothing(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        export(tmp_path / "m", **changes)
    assert not list(tmp_path.iterdir())
