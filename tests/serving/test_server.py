"""The server as a process: under load, replaced models, killed, and misused."""

import json
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import tensorflow as tf
from grids import some_of
from served_models import INDEXES, WIDTH, Client, Process, expected, export, normal

import grpc  # isort: skip
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tfrs_negatives._keras import IS_KERAS_3, keras
from tfrs_negatives.index import BruteForce, export_retrieval
from tfrs_negatives.serving import Server
from tfrs_negatives.serving.model_version import ModelVersion

LOAD = pathlib.Path(__file__).with_name("load_client.py")
GOOD = {"inputs": {"user": ["u3"], "shift": [[0.0]], "k": 5}}


def load(port, connections, seconds, *seed):
    """Starts a load from another process, until the seed's candidates have answered."""
    command = [sys.executable, LOAD, port, connections, seconds, *seed]
    return subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True)


def counted(process):
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return json.loads(printed)


def answers(port, seed):
    client = Client(port)
    status, answer = client.predict(GOOD)
    client.close()
    return (
        status == 200 and answer["outputs"]["ids"] == expected(seed, ["u3"], [0], 5)[0]
    )


@pytest.fixture
def started():
    """Starts processes, and sees to their end."""
    processes = []

    def start(*arguments, **options):
        processes.append(Process(*arguments, **options))
        return processes[-1]

    yield start
    for process in processes:
        process.end(signal.SIGKILL)


@pytest.mark.slow(reason="a server under load, in a process of its own")
def test_a_new_version_under_load_fails_no_request(tmp_path, started):
    export(tmp_path, 5, versioned=True)
    server = started(tmp_path, "--poll-seconds", "0.2")
    running = load(server.port, 4, 4, 6)
    time.sleep(1)
    export(tmp_path, 6, versioned=True)
    counts = counted(running)
    assert not [key for key in counts if key.startswith("failed")], counts
    assert [key for key in counts if key.startswith("status")] == ["status 200"], counts
    assert counts["seed 5"] > 10 and counts["seed 6"] > 10, counts
    assert answers(server.port, 6)
    code, log = server.end(signal.SIGTERM)
    assert code == 0, log
    assert "version 2 answers" in log and "Traceback" not in log


@pytest.mark.slow(reason="a server under load, in a process of its own")
@pytest.mark.parametrize("connections", [1, 8, 64])
@pytest.mark.parametrize("index_class", INDEXES)
def test_many_new_versions_under_load(tmp_path, started, connections, index_class):
    export(tmp_path, 5, num=5000, index_class=index_class, versioned=True)
    server = started(tmp_path, "--poll-seconds", "0.2")
    running = load(server.port, connections=connections, seconds=30)
    while running.poll() is None:
        for seed in (6, 5):
            export(tmp_path, seed, num=5000, index_class=index_class, versioned=True)
            time.sleep(1)
    counts = counted(running)
    assert not [key for key in counts if key.startswith("failed")], counts
    assert [key for key in counts if key.startswith("status")] == ["status 200"], counts
    assert counts["seed 5"] and counts["seed 6"]
    code, log = server.end(signal.SIGTERM)
    assert code == 0 and log.count("answers") > 3, log


@pytest.mark.parametrize("legacy", some_of(["0", "1"], ["1" if IS_KERAS_3 else "0"]))
def test_a_keras_tower_is_served_whatever_keras_is_there(
    tmp_path, started, monkeypatch, legacy
):
    """Exported under the active Keras, strings and a dict of features inside."""
    user = keras.Input((), dtype="string", name="user")
    age = keras.Input((1,), name="age")
    code = keras.layers.StringLookup(vocabulary=["ann", "bob"])(user)
    x = keras.layers.Concatenate()([keras.layers.Embedding(3, 4)(code), age])
    tower = keras.Model({"user": user, "age": age}, keras.layers.Dense(WIDTH)(x))
    spec = {
        "user": tf.TensorSpec([None], tf.string),
        "age": tf.TensorSpec([None, 1], tf.float32),
    }
    features = {"user": ["bob", "stranger"], "age": [[3.0], [-1.0]]}
    tensors = {name: tf.constant(value) for name, value in features.items()}
    candidates = normal(3, 50, WIDTH)
    index = BruteForce().index(candidates, [f"i{n}" for n in range(50)])
    path = export_retrieval(tmp_path / "m", tower, index, query_signature=spec)
    scores = tower(tensors).numpy() @ candidates.T
    ids = [[f"i{n}" for n in row] for row in np.argsort(-scores, axis=1)[:, :7]]

    monkeypatch.setenv("TF_USE_LEGACY_KERAS", legacy)
    client = Client(started(path).port)
    status, answer = client.predict({"inputs": {**features, "k": 7}})
    assert status == 200 and answer["outputs"]["ids"] == ids
    rest = {**features, "k": 5, "exclusions": [row[:2] for row in ids]}
    request = {"signature_name": "with_exclusions", "inputs": rest}
    assert client.predict(request)[1]["outputs"]["ids"] == [row[2:] for row in ids]
    client.close()


@pytest.mark.slow(reason="a server under load, in a process of its own")
def test_killed_and_started_again_on_the_same_ports(tmp_path, started):
    export(tmp_path / "m", 5)
    first = started(tmp_path / "m")
    running = load(first.port, connections=2, seconds=2)
    time.sleep(0.5)
    first.end(signal.SIGKILL)
    counted(running)
    again = started(tmp_path / "m", port=first.port, grpc_port=first.grpc_port)
    assert (again.port, again.grpc_port) == (first.port, first.grpc_port)
    assert answers(again.port, 5)
    code, log = again.end(signal.SIGINT)
    assert code == 0, log


@pytest.mark.slow(reason="a server under load, in a process of its own")
def test_requests_in_flight_are_answered_before_the_end(tmp_path, started):
    export(tmp_path / "m", 5)
    # A request waits two seconds for others.
    server = started(tmp_path / "m", "--max-wait-ms", "2000")
    client = Client(server.port)
    client._connection.request("POST", "/v1/models/retrieval:predict", json.dumps(GOOD))
    time.sleep(1)
    psutil.Process(server.pid).send_signal(signal.SIGTERM)
    assert client._connection.getresponse().status == 200
    client.close()
    assert server.end()[0] == 0


def test_taken_ports(tmp_path):
    path = export(tmp_path / "m", 5)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            Server(path, port=port, grpc_port=0)
        server = Server(path, port=0, grpc_port=port)
        with pytest.raises(
            OSError, match=f"{port} of 127.0.0.1 cannot be had for gRPC"
        ):
            server.start()


def test_two_that_load_at_a_time_do_not_share_a_port(tmp_path):
    path = export(tmp_path / "m", 5)
    first = Server(path, port=0, grpc_port=0)
    second = Server(path, port=first.port, grpc_port=0)
    first.start()
    with pytest.raises(OSError, match="in use"):
        second.start()
    assert answers(first.port, 5)
    first.stop()


def accepts(port):
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def test_nobody_is_accepted_before_the_model_is_warm(tmp_path, monkeypatch):
    path, seen = export(tmp_path / "m", 5), []
    with socket.create_server(("127.0.0.1", 0)) as one:
        with socket.create_server(("127.0.0.1", 0)) as other:
            ports = [each.getsockname()[1] for each in (one, other)]
    warm_up = ModelVersion.warm_up

    def watched(self, max_batch):
        seen.append([*map(accepts, ports)])
        warm_up(self, max_batch)
        seen.append([*map(accepts, ports)])

    monkeypatch.setattr(ModelVersion, "warm_up", watched)
    server = Server(path, port=ports[0], grpc_port=ports[1])
    assert seen == [[False, False]] * 2 and not any(map(accepts, ports))
    server.start()
    client = Client(server.port)
    states = client.get("/v1/models/retrieval")[1]["model_version_status"]
    assert [state["state"] for state in states] == ["AVAILABLE"]
    assert client.get("/healthz/ready") == (200, {"version": 1})
    client.close()
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    server.stop()
    assert not any(map(accepts, ports))


def malformed(rng):
    """A request that is wrong in one of many ways."""
    inputs = dict(GOOD["inputs"])
    wrong = [
        None,
        True,
        -1,
        2**70,
        1.5,
        "x",
        [],
        {},
        [[]],
        [None],
        [[["x"]]],
        ["u3"] * 9,
    ]
    kind = rng.randrange(6)
    if kind == 0:
        return bytes(rng.randrange(256) for _ in range(rng.randrange(200)))
    if kind == 1:
        text = json.dumps(GOOD).encode()
        return text[: rng.randrange(len(text))]
    if kind == 2:
        name = rng.choice(["k", "shift", "user"])
        inputs[name] = rng.choice([w for w in wrong if (name, w) != ("user", ["u3"])])
    if kind == 3:
        inputs.pop(rng.choice([name for name in inputs if name != "k"]))
    if kind == 4:
        inputs[f"more {rng.random()}"] = 1
    if kind == 5:
        return {"inputs": inputs, "signature_name": rng.choice(["x", 3, None])}
    return {rng.choice(["inputs", "instances"]): inputs}


def check_malformed(server, number):
    """Sends them, and returns by how many MiB the server has grown."""
    process = psutil.Process(server.pid)
    client, rng = Client(server.port), random.Random(0)
    used = []
    for place in range(number):
        body = malformed(rng)
        status, answer = client.predict(body)
        # `instances` with columns, or inputs left as they were, may be whole.
        assert 400 <= status < 500, (body, answer)
        assert set(answer) == {"error"}
        if place in (number // 5, number - 1):
            used.append(process.memory_info().rss / 2**20)
    client.close()
    assert answers(server.port, 5)
    return used[1] - used[0]


def test_malformed_requests(tmp_path, started):
    export(tmp_path / "m", 5)
    server = started(tmp_path / "m")
    check_malformed(server, 500)
    code, log = server.end()
    assert code == 0 and "Traceback" not in log


@pytest.mark.slow(reason="a server under load, in a process of its own")
def test_ten_thousand_malformed_requests(tmp_path, started):
    export(tmp_path / "m", 5)
    server = started(tmp_path / "m")
    assert check_malformed(server, 10_000) < 8
    code, log = server.end()
    assert code == 0 and "Traceback" not in log


@pytest.mark.slow(reason="a server under load, in a process of its own")
def test_clients_that_hang_up(tmp_path, started):
    export(tmp_path / "m", 5)
    server = started(tmp_path / "m")
    head = b"POST /v1/models/retrieval:predict HTTP/1.1\r\nhost: x\r\n"
    for text in (
        head + b"content-length: 100\r\n\r\n{",
        head + b"content-length: -1\r\n\r\n",
        head + b"content-length: 99999999999999999999\r\n\r\n",
        head + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\x00" * 100 + b"\r\n\r\n",
        b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as one:
            one.sendall(text)
    assert answers(server.port, 5)
    code, log = server.end()
    assert code == 0 and "Traceback" not in log


@pytest.mark.slow(reason="a server in a process of its own, many new versions")
def test_new_versions_leave_no_memory_behind(tmp_path, started):
    """What a server keeps from the garbage collector is let go with its version."""
    num = 100_000  # Names and embeddings of a version: some 20 MiB.
    wholes = [export(tmp_path / str(seed), seed, num=num) for seed in (5, 6)]
    root = tmp_path / "m"
    shutil.copytree(wholes[0], root / "1")
    server = started(root, "--poll-seconds", "0.2")
    used = []
    for number in range(2, 14):
        shutil.copytree(wholes[number % 2], root / f".{number}")
        (root / f".{number}").rename(root / str(number))
        client, until = Client(server.port), time.monotonic() + 60
        while client.get("/healthz/ready")[1] != {"version": number}:
            assert time.monotonic() < until
            time.sleep(0.1)
        client.close()
        shutil.rmtree(root / str(number - 1))
        time.sleep(0.5)
        used.append(psutil.Process(server.pid).memory_info().rss / 2**20)
    assert np.median(used[-3:]) - np.median(used[3:6]) < 40, used
