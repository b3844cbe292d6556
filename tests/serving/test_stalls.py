"""Clients that send what costs much, send nothing, or send without end."""

import contextlib
import json
import socket
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from served_models import Client, export

import grpc  # isort: skip
from tensorflow_serving.apis import (
    get_model_status_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfrs_negatives.serving import Limits, Server, grpc_service, json_tensors
from tfrs_negatives.serving.bytes_in_flight import FREE, BytesInFlight
from tfrs_negatives.serving.request_error import RequestError
from tfrs_negatives.serving.wire_fields import has_more_fields

PREDICT = "/tensorflow.serving.PredictionService/Predict"
GOOD = {"inputs": {"user": ["u3"], "shift": [[0.0]], "k": 5}}
HEAD = b"POST /v1/models/retrieval:predict HTTP/1.1\r\nhost: x\r\n"
NUM = 3000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "model"
    export(path, 1, num=NUM)
    return path


@contextlib.contextmanager
def serving(model, **limits):
    server = Server(model, port=0, grpc_port=0, limits=Limits(**limits))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(model):
    limits = {"head_seconds": 1.0, "body_seconds": 1.0, "idle_seconds": 1}
    limits |= {"max_exclusions": 100, "max_values": 1000, "max_connections": 9}
    with serving(model, max_bytes_in_flight=300_000, **limits) as server:
        yield server


@pytest.fixture
def predict(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict


def request(signature="", k=5, **inputs):
    made = predict_pb2.PredictRequest()
    made.model_spec.name, made.model_spec.signature_name = "retrieval", signature
    inputs = {
        "user": tf.make_tensor_proto(["u3"]),
        "shift": tf.make_tensor_proto(np.zeros([1, 1], np.float32)),
        "k": tf.make_tensor_proto(k, tf.int32),
        **inputs,
    }
    for name, value in inputs.items():
        made.inputs[name].CopyFrom(value)
    return made


def refused(method, asked, code, message):
    with pytest.raises(grpc.RpcError) as caught:
        method(asked, timeout=60)
    assert caught.value.code() == grpc.StatusCode[code], caught.value.details()
    assert message in caught.value.details()


def connected(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def answers(server):
    client = Client(server.port)
    status, _ = client.predict(GOOD)
    client.close()
    return status == 200


def read_all(connection):
    """What comes until the server closes."""
    parts = []
    try:
        while part := connection.recv(2**16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


@pytest.mark.parametrize(
    ("names", "code", "message"),
    [
        (["ids", "ids"], "INVALID_ARGUMENT", "each once, received 'ids' again"),
        (["ids", "age"], "INVALID_ARGUMENT", "may name ids, raw_bytes, scores, title"),
        (["ids"] * 10, "INVALID_ARGUMENT", "received 10 names"),
        (["ids"] * 10_000, "RESOURCE_EXHAUSTED", "1000 fields"),
    ],
)
def test_outputs_that_are_asked_for_in_vain_or_twice(
    server, predict, monkeypatch, names, code, message
):
    """Before the model answers: each repetition would be written again."""
    asked = request(k=2000)
    asked.output_filter.extend(names)
    version = server.service.versions.current
    monkeypatch.setattr(version, "run", None)
    refused(predict, asked, code, message)


def claims(*sizes, dtype=tf.string, **values):
    """A tensor of few bytes that stands for many."""
    made = tf.make_tensor_proto(0)
    made.Clear()
    made.dtype = dtype.as_datatype_enum
    for size in sizes:
        made.tensor_shape.dim.add(size=size)
    for name, value in (values or {"string_val": [b"u1"]}).items():
        getattr(made, name).extend(value)
    return made


@pytest.mark.parametrize(
    ("inputs", "code", "message"),
    [
        ({"user": claims(4_000_000)}, "RESOURCE_EXHAUSTED", "at most 1000 values"),
        # Few of each, many together.
        (
            {
                "user": claims(999),
                "shift": claims(2, 1, dtype=tf.float32, float_val=[0]),
            },
            "RESOURCE_EXHAUSTED",
            "1000 values, received 1002",
        ),
        ({"user": claims(*[1] * 300)}, "INVALID_ARGUMENT", "300 dimensions"),
        (
            {"user": claims(1, string_val=[b"u1"] * 9)},
            "INVALID_ARGUMENT",
            "must have 1 values, received 9",
        ),
        (
            {f"more {n}": claims() for n in range(2000)},
            "RESOURCE_EXHAUSTED",
            "1000 fields",
        ),
    ],
)
def test_tensors_that_claim_much(predict, monkeypatch, inputs, code, message):
    monkeypatch.setattr(tf, "make_ndarray", None)
    refused(predict, request(**inputs), code, message)


def test_exclusions_are_limited(server, predict):
    excluded = [["x"] * 101]
    asked = request("with_exclusions", exclusions=tf.make_tensor_proto(excluded))
    refused(predict, asked, "RESOURCE_EXHAUSTED", "may be 100, received 1 x 101")
    client = Client(server.port)
    body = {"signature_name": "with_exclusions"}
    body["inputs"] = {**GOOD["inputs"], "exclusions": excluded}
    status, answer = client.predict(body)
    assert status == 413 and "may be 100, received 1 x 101" in answer["error"]
    body["inputs"]["exclusions"] = [["x"] * 100]
    assert client.predict(body)[0] == 200
    client.close()


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs": [' + b"[]," * 600 + b"0]}",
        b'{"inputs": [' + b"{}," * 600 + b"0]}",
        b'{"inputs": {' + b",".join(b'"%d":1' % n for n in range(1100)) + b"}}",
    ],
)
def test_values_are_counted_before_they_are_read(server, monkeypatch, body):
    monkeypatch.setattr(json_tensors, "json", None)
    client = Client(server.port)
    status, answer = client.predict(body)
    assert status == 413 and "may have 1000 values" in answer["error"]
    client.close()


def test_large_messages_are_read_and_written_in_other_threads(server, monkeypatch):
    """As is what they make the server do; small ones are faster without."""
    threads = []
    for name in ("parse_request", "to_json"):
        function = getattr(json_tensors, name)

        def noted(*arguments, name=name, function=function):
            threads.append((name, threading.current_thread().name.split("_")[0]))
            return function(*arguments)

        monkeypatch.setattr(json_tensors, name, noted)
    client = Client(server.port)
    assert client.predict(GOOD)[0] == 200
    loop = threads[0][1]
    assert loop != "messages"
    assert threads == [("parse_request", loop), ("to_json", loop)]
    threads.clear()
    large = {"inputs": {**GOOD["inputs"], "k": NUM}}
    status, answer = client.predict(json.dumps(large) + " " * 20_000)
    assert status == 200 and len(answer["outputs"]["ids"][0]) == NUM
    assert threads == [("parse_request", "messages"), ("to_json", "messages")]
    client.close()


@pytest.mark.parametrize("layout", ["inputs", "instances"])
def test_long_answers_are_written_in_parts(layout):
    """The same JSON as in one."""
    rng = np.random.default_rng(0)
    ids = np.array([f'"{n}' for n in range(10_000)], object).astype("S").astype(object)
    outputs = {
        "ids": ids.reshape(2, 5000),
        "scores": rng.normal(size=[2, 5000]).astype(np.float32),
        "raw_bytes": np.full([2, 5000], b"\xff", object),
        "empty": np.zeros([2, 0, 3], np.int32),
    }
    outputs["scores"][0, 3] = -np.inf
    written = json_tensors.to_json(layout, outputs)
    columns = {
        "ids": [[one.decode() for one in row] for row in outputs["ids"]],
        "scores": outputs["scores"].tolist(),
        "raw_bytes": [[{"b64": "/w=="}] * 5000] * 2,
        "empty": [[], []],
    }
    columns["scores"][0][3] = None
    expected = {"outputs": columns}
    if layout == "instances":
        rows = [
            {name: column[row] for name, column in columns.items()} for row in (0, 1)
        ]
        expected = {"predictions": rows}
    assert written.decode() == json.dumps(expected, separators=(",", ":"))


def test_silent_connections_are_closed(server):
    starts = time.monotonic()
    with connected(server) as silent, connected(server) as half:
        half.sendall(HEAD)
        assert read_all(silent) == read_all(half) == b""
    # And after an answer.
    with connected(server) as idle:
        idle.sendall(b"GET /healthz/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert read_all(idle).startswith(b"HTTP/1.1 200 OK")
    assert time.monotonic() - starts < 10


def test_a_head_that_never_ends(server):
    with connected(server) as one:
        one.sendall(HEAD)
        with pytest.raises(OSError):  # noqa: PT011
            for _ in range(100):
                one.sendall(b"x: " + b"y" * 10_000 + b"\r\n")
                time.sleep(0.001)
    assert answers(server)


@pytest.mark.parametrize(
    "kind", [b"content-length: 100", b"transfer-encoding: chunked"]
)
def test_half_sent_bodies_end(server, kind):
    with connected(server) as one:
        one.sendall(HEAD + kind + b"\r\n\r\n")
        answer = read_all(one)
    assert answer.startswith(b"HTTP/1.1 408 ") and b"may take 1.0 seconds" in answer
    assert answers(server)


def test_a_body_that_goes_on_after_it_was_refused(server):
    with connected(server) as one:
        one.sendall(HEAD + b"content-length: 99999999\r\n\r\n")
        assert one.recv(100).startswith(b"HTTP/1.1 413 ")
        with pytest.raises(OSError):  # noqa: PT011
            for _ in range(10_000):
                one.sendall(b" " * 1000)
                time.sleep(0.01)


def test_a_body_of_tiny_chunks(server):
    with connected(server) as one:
        one.sendall(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        with pytest.raises(OSError):  # noqa: PT011
            for _ in range(1000):
                one.sendall(b"1\r\n \r\n" * 1000)
    assert answers(server)


def test_an_answer_that_nobody_takes(model, monkeypatch):
    """It is held no longer than its client may take."""
    with serving(model, head_seconds=0.5) as server:
        large = json.dumps({"inputs": {**GOOD["inputs"], "k": NUM}}).encode()
        to_json = json_tensors.to_json

        def padded(*arguments):
            return to_json(*arguments) + b" " * 20_000_000

        monkeypatch.setattr(json_tensors, "to_json", padded)
        held = server.service.bytes_in_flight
        with connected(server) as one:
            length = b"content-length: %d\r\n\r\n" % len(large)
            one.sendall(HEAD + length + large)
            until = time.monotonic() + 30
            while held.held < 10_000_000 and time.monotonic() < until:
                time.sleep(0.01)
            assert held.held > 10_000_000
            while held.held and time.monotonic() < until:
                time.sleep(0.05)
            assert held.held == 0


def test_more_connections_than_there_may_be(server):
    """The oldest of those that say nothing make room."""
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connected(server)) for _ in range(12)]
        assert answers(server)
        silent[0].settimeout(0.3)
        assert read_all(silent[0]) == b""
        assert answers(server)


def test_large_bodies_do_not_shut_out_small_ones(server):
    """Withheld ones fill what may be in flight; it is free again when they end."""
    large = json.dumps(GOOD).encode() + b" " * 200_000
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            one = stack.enter_context(connected(server))
            one.sendall(HEAD + b"content-length: 200001\r\n\r\n" + large[:140_000])
        time.sleep(0.2)
        client = Client(server.port)
        status, answer = client.predict(large)
        assert status == 503 and "Try again later" in answer["error"]
        assert client.predict(GOOD)[0] == 200
        client.close()
        time.sleep(2)
        assert client.predict(large)[0] == 200
        client.close()
    until = time.monotonic() + 10
    while server.service.bytes_in_flight.held and time.monotonic() < until:
        time.sleep(0.01)
    assert server.service.bytes_in_flight.held == 0


def test_bytes_in_flight():
    total = BytesInFlight(100)
    with total.hold() as one, total.hold() as other:
        one.add(FREE - 1)
        one.add(61)
        assert total.held == 60
        other.add(FREE)
        with pytest.raises(RequestError, match="holds 60 bytes"):
            other.add(41)
        other.add(40)
        assert total.held == 100
    assert total.held == 0


def test_a_grpc_message_that_does_not_come(model, monkeypatch):
    """It ends with its connection; other requests of that are answered until then."""
    monkeypatch.setattr(grpc_service, "_AGE_MS", 1500)
    monkeypatch.setattr(grpc_service, "_AGE_GRACE_MS", 500)
    with (
        serving(model) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        ended = threading.Event()

        def messages():
            ended.wait(30)
            yield from ()

        call = channel.stream_unary(PREDICT).future(messages(), timeout=60)
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert stub.Predict(request(), timeout=60).outputs["ids"].dtype
        with pytest.raises(grpc.RpcError) as caught:
            call.result(timeout=30)
        ended.set()
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        # By a new connection.
        assert stub.Predict(request(), timeout=60).outputs["ids"].dtype


def test_work_ends_when_its_client_has_gone(model):
    """Of three that wait for the one thread, two hang up: their batches never run."""
    with serving(model, threads=1) as server:
        version = server.service.versions.current
        run, gate, runs = version.run, threading.Event(), []

        def held(signature, inputs):
            runs.append(int(inputs["k"]))
            assert gate.wait(60)
            return run(signature, inputs)

        version.run = held
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            calls = [stub.Predict.future(request(k=k), timeout=60) for k in (1, 2, 3)]
            until = time.monotonic() + 30
            while not runs and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(0.3)
            first = runs[0]
            for k, call in enumerate(calls, 1):
                if k != first:
                    call.cancel()
            time.sleep(0.3)
            gate.set()
            assert calls[first - 1].result()
            assert answers(server)
        assert runs == [first, 5]


def test_fields_are_counted_as_protobuf_does():
    made = get_model_status_pb2.GetModelStatusResponse()
    assert not has_more_fields(made.SerializeToString(), 0)
    for number in range(5):
        made.model_version_status.add(version=number, state=30)
    asked = request()
    asked.output_filter.extend(["ids"] * 200)
    for message, fields in [(made, 5), (asked, 1 + 3 + 200)]:
        text = message.SerializeToString()
        for most in range(fields + 2):
            assert has_more_fields(text, most) == (most < fields)
    # Wire types of numbers, and what is cut or none.
    numbers = b"\x08\x96\x01" + b"\x11" + b"\0" * 8 + b"\x1d" + b"\0" * 4
    assert has_more_fields(numbers, 2) and not has_more_fields(numbers, 3)
    for wrong in (b"\xff" * 30, b"\x0a\xff\xff\xff\x07", b"\x0b" * 20, b"\x12"):
        assert not has_more_fields(wrong, 10)
