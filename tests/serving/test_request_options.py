"""Discounts of popularity, and users' histories, in requests of both protocols."""

import concurrent.futures

import numpy as np
import pytest
import tensorflow as tf
from served_models import INDEXES, Client, export, names, normal

import grpc  # isort: skip
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tfrs_negatives.data import positives_of
from tfrs_negatives.serving import Limits, Server

NUM = 40
USERS, SHIFTS = ["u3", "u7", "u99"], [0.5, -1.0, 0.0]
COLUMNS = {"user": USERS, "shift": [[s] for s in SHIFTS]}
COUNTS = np.random.default_rng(0).zipf(1.5, NUM)
HAVE = {"u3": names(1)[:9], "u99": [names(1)[20]]}


def expected(k, discounts, exclude=True, users=USERS, shifts=SHIFTS):
    """Ids and scores by sorting, in NumPy."""
    table = normal(0, 100, 8).astype(np.float64)
    queries = table[[int(u[1:]) for u in users]] + np.reshape(shifts, [-1, 1])
    scores = queries @ normal(1, NUM, 8).astype(np.float64).T
    scores -= np.reshape(discounts, [-1, 1]) * np.log(COUNTS / COUNTS.sum())
    for row, user in enumerate(users):
        if exclude:
            scores[row, [names(1).index(i) for i in HAVE.get(user, [])]] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    ids = [[names(1)[n] for n in row] for row in order]
    return ids, np.take_along_axis(scores, order, axis=1)


def check(outputs, *arguments, **changes):
    ids, scores = expected(*arguments, **changes)
    assert outputs["ids"] == ids
    np.testing.assert_allclose(outputs["scores"], scores, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module", params=INDEXES)
def server(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "model"
    pairs = [(user, item) for user, items in HAVE.items() for item in items]
    users, items = np.array(pairs).T
    histories = positives_of({"user": users, "item": items})
    options = {"histories": histories, "history_feature": "user"}
    export(path, 1, NUM, request.param, popularity=COUNTS, **options)
    limits = Limits(max_batch=16, threads=1, max_wait_ms=20)
    server = Server(path, port=0, grpc_port=0, limits=limits)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def stub(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def rows(**options):
    """The request in rows, with an option for each."""
    columns = {**COLUMNS, **options}
    return [
        dict(zip(columns, row, strict=True))
        for row in zip(*columns.values(), strict=True)
    ]


def of_rows(answer):
    rows = answer["predictions"]
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.mark.parametrize("discount", [0, 0.5, 1.0])
def test_one_model_any_discount(client, discount):
    """In columns for all rows or each, in rows for each, as TensorFlow Serving does."""
    discounts = [discount] * 3
    for given in ([discount], discounts):
        request = {"inputs": {**COLUMNS, "k": 6, "popularity_discount": given}}
        status, answer = client.predict(request)
        assert status == 200
        check(answer["outputs"], 6, discounts)
    request = {"instances": rows(popularity_discount=discounts)}
    check(of_rows(client.predict(request)[1]), 10, discounts)


def test_each_row_has_its_own(client):
    discounts = [1.0, 0.0, -0.5]
    request = {"inputs": {**COLUMNS, "popularity_discount": discounts}}
    check(client.predict(request)[1]["outputs"], 10, discounts)
    request = {"instances": rows(popularity_discount=discounts)}
    check(of_rows(client.predict(request)[1]), 10, discounts)


def test_both_may_be_left_out(client):
    check(client.predict({"inputs": COLUMNS})[1]["outputs"], 10, [0, 0, 0])
    check(of_rows(client.predict({"instances": rows()})[1]), 10, [0, 0, 0])
    exclusions = [["", ""]] * 3
    request = {"signature_name": "with_exclusions", "inputs": {**COLUMNS}}
    request["inputs"]["exclusions"] = exclusions
    check(client.predict(request)[1]["outputs"], 10, [0, 0, 0])


def test_with_what_users_have(client):
    request = {"inputs": {**COLUMNS, "exclude_history": [False]}}
    check(client.predict(request)[1]["outputs"], 10, [0, 0, 0], exclude=False)
    request = {"instances": rows(exclude_history=[False, False, False])}
    check(of_rows(client.predict(request)[1]), 10, [0, 0, 0], exclude=False)


def test_a_single_row(client):
    inputs = {"user": ["u3"], "shift": [[0.5]], "popularity_discount": [2]}
    answer = client.predict({"inputs": inputs})[1]["outputs"]
    check(answer, 10, [2], users=["u3"], shifts=[0.5])


def test_requests_that_merge_keep_their_discounts(server):
    discounts = [0.0, 0.25, 0.5, 1.0, -1.0, 3.0]

    def ask(discount):
        client = Client(server.port)
        given = {"popularity_discount": [discount]} if discount else {}
        try:
            return client.predict({"inputs": {**COLUMNS, **given}})[1]["outputs"]
        finally:
            client.close()

    with concurrent.futures.ThreadPoolExecutor(len(discounts)) as pool:
        answers = list(pool.map(ask, discounts))
    for discount, answer in zip(discounts, answers, strict=True):
        check(answer, 10, [discount] * 3)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("popularity_discount", float("nan"), "numbers from -1,000,000 to 1,000,000"),
        ("popularity_discount", float("inf"), "numbers from -1,000,000 to 1,000,000"),
        ("popularity_discount", "0.5", "must hold numbers (float32)"),
        ("popularity_discount", None, "must hold numbers (float32)"),
        ("popularity_discount", True, "must hold numbers (float32)"),
        ("exclude_history", 1, "must hold true or false"),
    ],
)
def test_bad_values(client, option, value, message):
    requests = [{"inputs": {**COLUMNS, option: [value]}}]
    requests.append({"instances": rows(**{option: [value] * 3})})
    for request in requests:
        status, answer = client.predict(request)
        assert status == 400 and message in answer["error"]


def test_bad_shapes(client):
    request = {"inputs": {**COLUMNS, "popularity_discount": 0.5}}
    status, answer = client.predict(request)
    assert status == 400 and "one a row, or one for all, in a list" in answer["error"]
    for wrong in ([0.5, 0.5], []):
        request = {"inputs": {**COLUMNS, "popularity_discount": wrong}}
        status, answer = client.predict(request)
        assert status == 400 and "the same number of rows" in answer["error"]
    some = [*rows(popularity_discount=[0.5] * 3)[:1], *rows()[1:]]
    status, answer = client.predict({"instances": some})
    assert status == 400 and "must be in all rows, or in none" in answer["error"]


def ask(stub, **options):
    made = predict_pb2.PredictRequest()
    made.model_spec.name = "retrieval"
    made.inputs["user"].CopyFrom(tf.make_tensor_proto(USERS))
    made.inputs["shift"].CopyFrom(
        tf.make_tensor_proto(np.float32(SHIFTS)[:, np.newaxis])
    )
    for name, value in options.items():
        made.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    answer = stub.Predict(made, timeout=60)
    ids = tf.make_ndarray(answer.outputs["ids"])
    return {
        "ids": [[one.decode() for one in row] for row in ids],
        "scores": tf.make_ndarray(answer.outputs["scores"]),
    }


def test_grpc(stub):
    check(ask(stub), 10, [0, 0, 0])
    check(ask(stub, popularity_discount=np.float32([0.5])), 10, [0.5] * 3)
    each = np.float32([1.0, 0.0, -0.5])
    check(ask(stub, popularity_discount=each), 10, each)
    found = ask(stub, exclude_history=[False], popularity_discount=each)
    check(found, 10, each, exclude=False)


@pytest.mark.parametrize(
    ("discount", "message"),
    [
        (np.float32([np.nan]), "numbers from -1,000,000 to 1,000,000"),
        (np.float64([0.5]), "must be float32, received float64"),
        (np.float32(0.5), "one a row, or one for all"),
        (np.float32([0.5, 0.5]), "the same number of rows"),
    ],
)
def test_grpc_refuses(stub, discount, message):
    with pytest.raises(grpc.RpcError) as refused:
        ask(stub, popularity_discount=discount)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert message in refused.value.details()


def test_an_export_without(tmp_path):
    export(tmp_path / "m", 1)
    server = Server(tmp_path / "m", port=0, grpc_port=0)
    server.start()
    client = Client(server.port)
    try:
        for option, argument in [
            ("popularity_discount", "popularity"),
            ("exclude_history", "histories"),
        ]:
            request = {"inputs": {**COLUMNS, option: [0.5]}}
            status, answer = client.predict(request)
            assert status == 400
            assert f"received {', '.join(sorted(request['inputs']))}" in answer["error"]
            assert f"was given `{argument}=`" in answer["error"]
    finally:
        client.close()
        server.stop()
