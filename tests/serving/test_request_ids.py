"""Ids of requests: taken over or made, returned, and in every line of the log."""

import io
import json
import logging
import re
import time

import pytest
import tensorflow as tf
from served_models import Client, export

import grpc  # isort: skip
from tensorflow_serving.apis import predict_pb2

from tfrs_negatives.serving import Server, Service
from tfrs_negatives.serving.monitoring import JsonLines
from tfrs_negatives.serving.request_id import request_id_of

PREDICT = "/tensorflow.serving.PredictionService/Predict"
FIELD = "x-request-id"
MADE = re.compile("[0-9a-f]{32}")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = export(tmp_path_factory.mktemp("served") / "m", 5)
    server = Server(path, port=0, grpc_port=0, logs_answers=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def log():
    """What all loggers write as JSON: a function that waits for so many lines.

    An answer may arrive before the server has written about it.
    """
    stream, root = io.StringIO(), logging.getLogger()
    handler, before = logging.StreamHandler(stream), root.level
    handler.setFormatter(JsonLines())
    root.addHandler(handler)
    root.setLevel(logging.INFO)

    def lines(number):
        end = time.monotonic() + 30
        while stream.getvalue().count("\n") < number and time.monotonic() < end:
            time.sleep(0.01)
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    yield lines
    root.removeHandler(handler)
    root.setLevel(before)


def inputs(user="u3"):
    return {"user": [user], "shift": [[0.0]], "k": 5}


def asked_rest(server, path, body, *ids):
    """Status, and the ids that the answer has."""
    client = Client(server.port)
    connection = client._connection
    connection.putrequest("POST", path)
    for each in ids:
        connection.putheader("X-Request-Id", each)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    response = connection.getresponse()
    response.read()
    client.close()
    return response.status, response.headers.get_all(FIELD)


def asked_grpc(server, user, *ids):
    """Name of the code, and the ids that the answer has."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "retrieval"
    for name, value in inputs(user).items():
        dtype = {"k": tf.int32, "shift": tf.float32}.get(name)
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value, dtype))
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        call = channel.unary_unary(PREDICT).future(
            request.SerializeToString(), 60, [(FIELD, each) for each in ids]
        )
        found = [value for key, value in call.trailing_metadata() if key == FIELD]
        return call.code().name, found


def asked(server, protocol, user, *ids):
    if protocol == "GRPC":
        return asked_grpc(server, user, *ids)
    body = json.dumps({"inputs": inputs(user)}).encode()
    return asked_rest(server, "/v1/models/retrieval:predict", body, *ids)


@pytest.mark.parametrize(
    "given", ["a", "x" * 128, "7f9c-1e0a_B.c~d:e+f/g=", "00-4bf92f3577b34da6-01"]
)
def test_well_formed_ids_are_taken_over(given):
    assert request_id_of([given]) == given


@pytest.mark.parametrize(
    "given",
    [[], [""], ["x" * 129], ["a b"], ["a\n"], ["é"], ['"'], ["{}"], ["a", "a"]],
)
def test_other_ids_are_made(given):
    made = {request_id_of(given) for _ in range(9)}
    assert len(made) == 9 and all(MADE.fullmatch(each) for each in made)


@pytest.mark.parametrize("protocol", ["REST", "GRPC"])
def test_ids_are_returned_and_logged(server, log, protocol):
    cases = [("u3", (200, "OK")), ("u?", (400, "INVALID_ARGUMENT"))]
    for number, (user, codes) in enumerate(cases, 1):
        code, found = asked(server, protocol, user, f"of-{user[:1]}.1")
        assert code in codes and found == ["of-u.1"]
        code, [made] = asked(server, protocol, user, "not an id")
        assert code in codes and MADE.fullmatch(made)
        given, new = log(2 * number)[-2:]
        assert (given["request_id"], new["request_id"]) == ("of-u.1", made)
        assert given["code"] == new["code"] == code
        assert given["protocol"] == protocol


def test_paths_that_are_not_there_and_heads_that_are_wrong_have_ids_too(server, log):
    assert asked_rest(server, "/nowhere", b"", "one") == (404, ["one"])
    status, [made] = asked_rest(server, "/nowhere", b"", "one", "two")
    assert status == 404 and MADE.fullmatch(made)
    assert [line["request_id"] for line in log(2)] == ["one", made]


@pytest.mark.parametrize("protocol", ["REST", "GRPC"])
def test_what_fails_is_found_by_its_id(server, log, monkeypatch, protocol):
    async def broken(*_):
        raise RuntimeError("a defect")

    monkeypatch.setattr(Service, "predict", broken)
    code, found = asked(server, protocol, "u3", "the-bad-one")
    assert code in (500, "INTERNAL") and found == ["the-bad-one"]
    lines = log(2)
    assert {line["request_id"] for line in lines} == {"the-bad-one"}
    [failed] = [line for line in lines if "exception" in line]
    assert "a defect" in failed["exception"] and failed["level"] == "ERROR"


@pytest.mark.parametrize("protocol", ["REST", "GRPC"])
def test_the_log_has_nothing_that_a_request_says(server, log, protocol):
    """Whether it is answered, refused by a check, or by the model."""
    for user in ("u3-secret", "secret", "u3secret\x1b"):
        asked(server, protocol, user)
    body = b'{"inputs": {"secret": ["secret"]}}'
    asked_rest(server, "/v1/models/retrieval:predict", body)
    asked_rest(server, "/v1/models/retrieval:predict?user=secret", body[:-1])
    lines = log(5)
    assert len(lines) == 5 and "secret" not in json.dumps(lines)
