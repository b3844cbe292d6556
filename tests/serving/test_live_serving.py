"""Items that change while they are served: filters, changes, and who may make them."""

import concurrent.futures
import gzip
import http.client
import json
import os
import random
import threading
import time

import filter_oracle
import numpy as np
import pytest
import tensorflow as tf
from live_models import NUM, TOKEN, WIDTH, Held, ItemsClient, check, export, items
from served_models import Client, normal

import grpc  # isort: skip
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfrs_negatives.index import load_retrieval
from tfrs_negatives.serving import AdminToken, Limits, Server

IDS = [f"é {n}" for n in range(NUM)]
LIMITS = Limits(max_batch=16, threads=1, max_wait_ms=5, max_filters=4, max_values=2000)


def started(path, **options):
    options = {"limits": LIMITS, "poll_seconds": 0.1, **options}
    server = Server(path, port=0, grpc_port=0, **options)
    server.start()
    return server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "model"
    export(path, items(1, IDS))
    server = started(path, admin_token=AdminToken(TOKEN))
    server.folder = path
    yield server
    server.stop()


@pytest.fixture
def client(server):
    client = ItemsClient(server.port)
    yield client
    client.close()


@pytest.fixture
def held(client):
    """The first items, and the server holds no others."""
    held = Held()
    held.upsert(items(1, IDS))
    assert client.change("upsert", items(1, IDS))[0] == 200
    assert client.change("delete", {"ids": ["new 0", "new 1", "new 2"]})[0] == 200
    return held


def ask(client, queries, k, **options):
    inputs = {"query": queries.tolist(), "k": k, **options}
    status, answer = client.predict({"inputs": inputs})
    assert status == 200, answer
    return answer["outputs"]


def ask_grpc(server, name="serving_default", **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "retrieval", name
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(value)
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        outputs = stub.Predict(request, timeout=30).outputs
    arrays = {name: tf.make_ndarray(proto) for name, proto in outputs.items()}
    return {
        name: [
            [each.decode() if isinstance(each, bytes) else each for each in row]
            for row in array.tolist()
        ]
        for name, array in arrays.items()
    }


def test_filters_by_rest_grpc_and_python(server, client, held):
    rng, model = random.Random(2), load_retrieval(server.folder)
    for round_number in range(12):
        queries = normal(round_number, 3, WIDTH)
        nodes = [filter_oracle.tree(rng, 2) for _ in range(2)]
        texts = [filter_oracle.text(rng, node) for node in nodes]
        nodes, texts = [nodes[0], None, nodes[1]], [texts[0], "", texts[1]]
        found = ask(client, queries, 12, where=texts)
        check(found, held, queries, 12, nodes)
        rows = [
            {"query": query.tolist(), "where": text, "k": 12}
            for query, text in zip(queries, texts, strict=True)
        ]
        status, answer = client.predict({"instances": rows})
        assert status == 200
        of_rows = {name: [r[name] for r in answer["predictions"]] for name in found}
        assert of_rows == found
        given = {"query": queries, "k": np.int32(12), "where": texts}
        of_grpc = ask_grpc(
            server, **{name: tf.make_tensor_proto(v) for name, v in given.items()}
        )
        check(of_grpc, held, queries, 12, nodes)
        of_python = model.signatures["serving_default"](**given)
        np.testing.assert_allclose(of_grpc["scores"], of_python["scores"], rtol=1e-5)
        ids = [[each.decode() for each in row] for row in of_python["ids"].numpy()]
        assert of_grpc["ids"] == ids
        # One filter for all.
        check(ask(client, queries, 5, where=texts[:1]), held, queries, 5, nodes[:1] * 3)
    model.release()


def test_what_may_be_left_out(client, held):
    queries = normal(4, 2, WIDTH)
    status, answer = client.predict({"inputs": queries.tolist()})
    assert status == 200
    check(answer["outputs"], held, queries, 10)


def test_exclusions(client, held):
    queries, gone = normal(5, 2, WIDTH), [IDS[:4], IDS[3:7]]
    inputs = {"query": queries.tolist(), "k": NUM, "exclusions": gone}
    request = {"signature_name": "with_exclusions", "inputs": inputs}
    status, answer = client.predict(request)
    assert status == 200
    check(answer["outputs"], held, queries, NUM, without=gone)


def test_the_signature_is_told(server, client):
    status, answer = client.get("/v1/models/retrieval/metadata")
    assert status == 200
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert sorted(signatures) == ["embed_query", "serving_default", "with_exclusions"]
    where = signatures["serving_default"]["inputs"]["where"]
    assert where["dtype"] == "DT_STRING"
    assert [d["size"] for d in where["tensor_shape"]["dim"]] == ["-1"]
    outputs = signatures["serving_default"]["outputs"]
    assert sorted(outputs) == ["ids", "scores", "title"]
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = "retrieval"
    request.metadata_field.append("signature_def")
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        found = stub.GetModelMetadata(request, timeout=30).metadata["signature_def"]
    definitions = get_model_metadata_pb2.SignatureDefMap()
    assert found.Unpack(definitions)
    defaults = definitions.signature_def["serving_default"].defaults
    assert tf.make_ndarray(defaults["where"]).tolist() == [b""]
    assert tf.make_ndarray(defaults["k"]) == 10


@pytest.mark.slow(reason="eight clients at a time, of filters tested above")
def test_requests_of_one_moment_have_their_own_filters(server, held):
    queries = normal(6, 8, WIDTH)
    nodes = [("==", "shop", "red", False), ("missing", "price", False), None]
    texts = ['shop == "red"', "price is missing", ""]

    def one(n):
        client = Client(server.port)
        found = ask(client, queries[n : n + 1], 6, where=[texts[n % 3]])
        client.close()
        return found

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        for n, found in enumerate(threads.map(one, range(8))):
            check(found, held, queries[n : n + 1], 6, [nodes[n % 3]])


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"where": ["price <"]}, 400, "expected a number or a text"),
        ({"where": ["nothing == 1"]}, 400, "nothing"),
        ({"where": ['price == "a"']}, 400, "price"),
        ({"where": ["price > 1 or " * 400 + "price > 1"]}, 400, "at most 4,096"),
        ({"where": [3]}, 400, "must hold strings"),
        ({"where": "price > 1"}, 400, "one for all, in a list"),
        ({"where": ["", ""]}, 400, "same number of rows"),
        ({"k": 0}, 400, "k must be from 1"),
        ({"k": 2**20}, 413, "Rows times k"),
        ({"popularity_discount": [0.5]}, 400, "was given `popularity=`"),
    ],
)
def test_bad_queries(client, held, options, status, message):
    request = {"query": normal(0, 3, WIDTH).tolist(), **options}
    found, answer = client.predict({"inputs": request})
    assert found == status and message in answer["error"]


def test_too_many_filters(client, held):
    texts = [f"price > {n}" for n in range(5)]
    request = {"query": normal(0, 5, WIDTH).tolist(), "where": texts}
    status, answer = client.predict({"inputs": request})
    assert status == 413 and "4 different filters" in answer["error"]


def test_a_change_is_found_by_the_next_query(client, held):
    queries, rng = normal(7, 2, WIDTH), random.Random(7)
    for seed in range(10, 16):
        new = items(seed, [*rng.sample(IDS, 3), f"new {seed % 3}"])
        added = sum(each not in held.items for each in new["ids"])
        held.upsert(new)
        status, answer = client.change("upsert", new)
        assert (status, answer) == (200, {"added": added, "replaced": 4 - added})
        check(ask(client, queries, 9), held, queries, 9)
        gone = [*rng.sample(IDS, 2), "none has this"]
        deleted = sum(held.items.pop(each, None) is not None for each in gone)
        assert client.change("delete", {"ids": gone}) == (200, {"deleted": deleted})
        check(ask(client, queries, 9), held, queries, 9)
    packed = gzip.compress(json.dumps({"ids": IDS[:1]}).encode())
    gzipped = {"Content-Encoding": "gzip"}
    assert client.change("delete", packed, "/versions/1", **gzipped)[0] == 200


@pytest.mark.parametrize(
    "fields",
    [
        [],
        ["Bearer"],
        ["Bearer "],
        [f"Basic {TOKEN}"],
        [f"Bearer {TOKEN}x"],
        [f"Bearer {TOKEN[:-1]}"],
        [f"Bearer {TOKEN.upper()}"],
        [TOKEN],
        [f"Bearer {TOKEN}", f"Bearer {TOKEN}"],
    ],
)
@pytest.mark.parametrize("kind", ["upsert", "delete"])
def test_who_may_not(server, client, held, fields, kind):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("POST", f"/v1/models/retrieval:{kind}")
    for field in fields:
        connection.putheader("Authorization", field)
    body = json.dumps({"ids": IDS}).encode()
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    response = connection.getresponse()
    assert response.status == 401
    assert response.headers["www-authenticate"] == "Bearer"
    error = json.loads(response.read())["error"]
    connection.close()
    assert "Authorization: Bearer TOKEN" in error and TOKEN not in error
    queries = normal(8, 1, WIDTH)
    check(ask(client, queries, NUM), held, queries, NUM)


def changed(**options):
    return {**items(99, ["new 0", "new 1"]), **options}


BAD_CHANGES = {
    "no JSON": (b"{", 400, "Expected JSON"),
    "a list": (b"[]", 400, "Expected a JSON object"),
    "a lone value": (b"3", 400, "Expected a JSON object"),
    "other fields": (changed(more=1), 400, "Expected a JSON object with"),
    "no embeddings": ({"ids": ["a"]}, 400, "Expected a JSON object with"),
    "ids that are no list": (changed(ids="ab"), 400, "must be a list"),
    "ids of another type": (changed(ids=[1, 2]), 400, "must all be strings"),
    "an id twice": (changed(ids=["a", "a"]), 400, "must differ"),
    "too few ids": (changed(ids=["a"]), 400, "one row for each id"),
    "another width": (changed(embeddings=[[1.0]] * 2), 400, "must be 6 wide"),
    "rows of two widths": (
        changed(embeddings=[[1.0], [1, 2]]),
        400,
        "different lengths",
    ),
    "NaN": (changed(embeddings=[[float("nan")] * WIDTH] * 2), 400, "must be finite"),
    "texts": (changed(embeddings=[["1"] * WIDTH] * 2), 400, "floating-point"),
    "an object": (changed(embeddings={}), 400, "must have shape"),
    "no payload": (changed(payload={}), 400, "dict of the columns"),
    "payload of another type": (
        changed(payload={"title": [1, 2]}),
        400,
        "kind 'string'",
    ),
    "an attribute too many": (
        changed(attributes={**changed()["attributes"], "size": [1, 2]}),
        400,
        "dict of the columns",
    ),
    "an attribute of another type": (
        changed(attributes={**changed()["attributes"], "price": ["1", "2"]}),
        400,
        "kind 'number'",
    ),
    "popularity": (changed(popularity=[-1.0, -1.0]), 400, "`popularity` must be none"),
    "too many values": (
        items(3, [f"new {n}" for n in range(400)]),
        413,
        "may have 2000 values",
    ),
    "too many bytes": (b" " * (LIMITS.max_request_bytes + 1), 413, "bytes"),
}


@pytest.mark.parametrize("name", BAD_CHANGES)
def test_a_bad_change_changes_nothing(server, client, held, name):
    body, status, message = BAD_CHANGES[name]
    before = server.service.versions.current.model.items.statistics()
    found, answer = client.change("upsert", body)
    assert found == status and message in answer["error"], answer
    assert server.service.versions.current.model.items.statistics() == before


def test_other_models_and_versions_are_not_there(client, held):
    status, answer = client.change("upsert", changed(), "/versions/7")
    assert status == 404 and "Version 1" in answer["error"]
    status, _ = client.ask("GET", "/v1/models/retrieval:upsert")
    assert status in (404, 405)


def test_a_full_disk_is_told_and_queries_go_on(tmp_path, monkeypatch):
    export(tmp_path / "m", items(1, IDS))
    server = started(tmp_path / "m", admin_token=AdminToken(TOKEN))
    client, queries = ItemsClient(server.port), normal(0, 1, WIDTH)
    held = Held()
    held.upsert(items(1, IDS))

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        for _ in range(2):
            status, answer = client.change("upsert", changed())
            assert status == 500 and "start the server again" in answer["error"]
    # It stays refused, since the disk may hold what it says that it does not.
    assert client.change("upsert", changed())[0] == 500
    check(ask(client, queries, 5), held, queries, 5)
    client.close()
    server.stop()
    # The directory is no more locked, and whole.
    model = load_retrieval(tmp_path / "m", writable=True)
    assert len(model.items) == NUM
    model.release()


def test_without_a_token_nobody_may_and_items_are_followed(server, client, held):
    reader = started(server.folder)
    asked = ItemsClient(reader.port)
    assert asked.change("upsert", changed())[0] == 405
    queries = normal(9, 2, WIDTH)
    check(ask(asked, queries, 9), held, queries, 9)
    new = items(21, ["new 1", IDS[0]])
    held.upsert(new)
    assert client.change("upsert", new)[0] == 200
    deadline = time.monotonic() + 20
    while "new 1" not in sum(ask(asked, queries, NUM + 1)["ids"], []):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    check(ask(asked, queries, 9), held, queries, 9)
    asked.close()
    reader.stop()


@pytest.mark.slow(reason="exports and serves a model of the other form")
def test_items_of_a_saved_model_cannot_be_changed(tmp_path):
    from served_models import export as export_still

    path = export_still(tmp_path / "m", 1)
    server = started(path, admin_token=AdminToken(TOKEN))
    client = ItemsClient(server.port)
    status, answer = client.change("delete", {"ids": ["a"]})
    assert status == 400 and "`export_live_retrieval`" in answer["error"]
    inputs = {"user": ["u3"], "shift": [[0.5]], "where": ["a == 1"]}
    status, answer = client.predict({"inputs": inputs})
    assert status == 400 and "`export_live_retrieval` wrote" in answer["error"]
    client.close()
    server.stop()


def test_queries_go_on_while_items_change(server, held):
    queries, stop = normal(11, 1, WIDTH), threading.Event()

    def change(number):
        client, count = ItemsClient(server.port), 0
        while not stop.is_set():
            new = items(number, [IDS[number], f"new {number}"])
            assert client.change("upsert", new)[0] == 200
            assert client.change("delete", {"ids": [f"new {number}"]})[0] == 200
            count += 1
        client.close()
        return count

    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        running = [threads.submit(change, number) for number in range(3)]
        client = Client(server.port)
        for _ in range(60):
            found = ask(client, queries, NUM)
            # Nothing is there twice or missing, whatever moment it was.
            ids = [each for each in found["ids"][0] if not each.startswith("new")]
            assert len(set(ids)) == len(ids) >= NUM - 3
        client.close()
        stop.set()
        assert sum(each.result() for each in running) > 10


def test_the_number_of_items_is_counted(server, client, held):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/monitoring/prometheus/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    assert f"tfrs_negatives_items {NUM}\n" in text


@pytest.mark.parametrize(
    "token", ["", "short", "a" * 15, "with blanks in the middle", "é" * 20, "a" * 5000]
)
def test_bad_tokens(tmp_path, token):
    with pytest.raises(ValueError, match="The admin token must have") as caught:
        AdminToken(token)
    assert not token or token not in str(caught.value)


def test_where_tokens_come_from(tmp_path, monkeypatch):
    (tmp_path / "token").write_text(f"\n {TOKEN}\n")
    monkeypatch.setenv("SOME_TOKEN", TOKEN)
    for token in (
        AdminToken.from_file(tmp_path / "token"),
        AdminToken.from_environment("SOME_TOKEN"),
    ):
        token.check([f"bearer {TOKEN}"])
        assert TOKEN not in repr(token)
    with pytest.raises(ValueError, match="cannot be read"):
        AdminToken.from_file(tmp_path / "absent")
    with pytest.raises(ValueError, match="OTHER_TOKEN, which is not set"):
        AdminToken.from_environment("OTHER_TOKEN")
