"""Each row of the table of what stays different from TensorFlow Serving."""

import contextlib
import json
import pathlib
import socket

import numpy as np
import pytest
import tensorflow as tf
from differences import TESTS, row
from served_models import WIDTH, Client, expected, export, normal

import grpc  # isort: skip
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2

from tfrs_negatives.index import BruteForce, export_retrieval
from tfrs_negatives.serving import Limits, Server, VersionPolicy

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "serving.md"
NUM = 40
ONE = {"user": ["u3"], "shift": [[0.0]]}
BODY = json.dumps({"inputs": ONE})
SERVICE = "/tensorflow.serving."


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("served") / "m"
    for seed in (5, 6):
        export(root, seed, versioned=True)
    limits = Limits(max_batch=16, body_seconds=1.0)
    policy = VersionPolicy(labels={"first": 1})
    server = Server(
        root, port=0, grpc_port=0, limits=limits, versions=policy, poll_seconds=60
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture
def call(server):
    """Sends a message over gRPC: the code, and the details or the answer."""
    channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")

    def send(method, message=b""):
        try:
            return "OK", channel.unary_unary(SERVICE + method)(message, timeout=60)
        except grpc.RpcError as error:
            return error.code().name, error.details()

    yield send
    channel.close()


def raw(server, text):
    """What comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as one:
        one.sendall(text)
        answer = b""
        while part := one.recv(2**16):
            answer += part
    return answer


HEAD = b"POST /v1/models/retrieval:predict HTTP/1.1\r\nhost: x\r\n"


@row("scores that are not finite, in JSON")
def test_scores_that_are_not_finite(client):
    best = expected(6, ["u3"], [0.0], NUM)[0][0]
    request = {
        "signature_name": "with_exclusions",
        "inputs": {**ONE, "k": 2, "exclusions": [best[:39]]},
    }
    _, answer = client.predict(request)
    assert answer["outputs"]["scores"][0][1] is None


@row("scalars in rows")
def test_scalars_in_rows(client):
    of_a_row = {"user": "u3", "shift": [0.0]}
    rows = [{**of_a_row, "k": 2}, {**of_a_row, "k": 2}]
    assert client.predict({"instances": rows})[0] == 200
    rows[1]["k"] = 3
    assert client.predict({"instances": rows})[0] == 400


@row("inputs with a default")
def test_inputs_with_a_default(client):
    status, answer = client.predict(BODY)
    assert status == 200 and len(answer["outputs"]["ids"][0]) == 10


@row("values without names")
def test_values_without_names(client, tmp_path):
    assert "without names" in client.predict({"instances": ["u3"]})[1]["error"]
    path = export_retrieval(
        tmp_path / "m",
        lambda users: tf.gather(normal(0, 9, WIDTH), users),
        BruteForce().index(normal(1, NUM, WIDTH)),
        query_signature=tf.TensorSpec([None], tf.int32, name="user"),
    )
    with contextlib.ExitStack() as stack:
        server = Server(path, port=0, grpc_port=0)
        server.start()
        stack.callback(server.stop)
        other = Client(server.port)
        stack.callback(other.close)
        assert len(other.predict({"instances": [3, 4]})[1]["predictions"]) == 2


@row("bytes that are no UTF-8, in an output of any name")
def test_bytes_that_are_no_text(tmp_path):
    path = export_retrieval(
        tmp_path / "m",
        lambda users: tf.gather(normal(0, 9, WIDTH), users),
        BruteForce().index(normal(1, 3, WIDTH)),
        query_signature=tf.TensorSpec([None], tf.int32, name="user"),
        payload={"title": [b"\xff", b"\xff", b"\xff"]},
    )
    server = Server(path, port=0, grpc_port=0)
    server.start()
    client = Client(server.port)
    _, answer = client.predict({"inputs": {"user": [1], "k": 2}})
    assert answer["outputs"]["title"] == [[{"b64": "/w=="}] * 2]
    client.close()
    server.stop()


@row("Classify, Regress, MultiInference")
def test_other_kinds_of_prediction(client, call):
    for method in ("Classify", "Regress", "MultiInference", "PredictStreamed"):
        assert call(f"PredictionService/{method}")[0] == "UNIMPLEMENTED"
    for method in ("classify", "regress"):
        assert client.predict(BODY, f":{method}")[0] == 405


@row("models in a process")
def test_one_model(client):
    status, answer = client.ask("POST", "/v1/models/other:predict", BODY)
    assert status == 404 and "'retrieval' is served" in answer["error"]


@row("`HandleReloadConfigRequest`")
def test_reloading(call):
    """With `--reload`: tests/serving/test_version_policy.py."""
    assert call("ModelService/HandleReloadConfigRequest")[0] == "UNIMPLEMENTED"


@row("versions with a label")
def test_versions_with_a_label(client):
    status, answer = client.predict(BODY, "/labels/first:predict")
    assert status == 200
    assert answer["outputs"]["ids"][0] == expected(5, ["u3"], [0.0], 10)[0][0]
    _, answer = client.predict(BODY)
    assert answer["outputs"]["ids"][0] == expected(6, ["u3"], [0.0], 10)[0][0]


def message(rows, outputs=()):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "retrieval"
    users = np.array([b"u3"] * rows, object)
    shifts = np.zeros([rows, 1], np.float32)
    request.inputs["user"].CopyFrom(tf.make_tensor_proto(users))
    request.inputs["shift"].CopyFrom(tf.make_tensor_proto(shifts))
    request.output_filter.extend(outputs)
    return request.SerializeToString()


@row("cost of a request")
def test_the_cost_of_a_request(client, call):
    many = {"user": ["u3"] * 17, "shift": [[0.0]] * 17}
    assert client.predict({"inputs": many})[0] == 413
    assert call("PredictionService/Predict", message(17))[0] == "RESOURCE_EXHAUSTED"
    assert call("PredictionService/Predict", message(16))[0] == "OK"


@row("clients that do not go on")
def test_clients_that_do_not_go_on(server):
    answer = raw(server, HEAD + b"content-length: 9\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408 ")


@row("fields of a head that say two things")
def test_fields_that_say_two_things(server):
    fields = b"content-length: 9\r\ntransfer-encoding: chunked\r\n\r\n"
    assert raw(server, HEAD + fields).startswith(b"HTTP/1.1 400 ")


@row("names that repeat in `output_filter`")
def test_names_that_repeat(call):
    sent = message(1, ["ids", "ids"])
    assert call("PredictionService/Predict", sent)[0] == "INVALID_ARGUMENT"


@row("other compressions than gzip")
def test_other_compressions(client):
    assert client.predict(BODY, **{"Content-Encoding": "br"})[0] == 400


@row("metrics")
def test_metrics_are_always_there(server, client):
    client.predict(BODY)
    connection = client._connection
    connection.request("GET", "/monitoring/prometheus/metrics")
    text = connection.getresponse().read().decode()
    assert '\n:tensorflow:serving:request_count{model_name="retrieval"' in text
    assert "\n:tensorflow:serving:request_latency_bucket{" in text
    assert "\ntfrs_negatives_answers_total{" in text


@row("health")
def test_health_of_both(server, client):
    for path in ("live", "ready"):
        assert client.get(f"/healthz/{path}") == (200, {"version": 2})
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_every_row_has_a_test():
    text = DOCS.read_text().split("### What stays different from TensorFlow Serving")[1]
    table = text.split("|---|---|---|\n")[1].split("\n\n")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines()]
    import test_transport  # noqa: F401  Which has some of them.

    assert rows and sorted(rows) == sorted(TESTS)
