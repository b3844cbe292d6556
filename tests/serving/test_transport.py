"""Compressed bodies, pages of other origins, TLS, and health checks over gRPC."""

import contextlib
import gzip
import http.client
import json
import shutil
import ssl
import subprocess
import threading
import time
import zlib

import pytest
import tensorflow as tf
from differences import row
from grids import some_of
from served_models import Client, expected, export

import grpc  # isort: skip
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tfrs_negatives.serving import Limits, Server, TlsFiles

SLOW = pytest.mark.slow(reason="starts other servers")
INPUTS = {"user": ["u3"], "shift": [[0.0]], "k": 5}
BODY = json.dumps({"inputs": INPUTS}).encode()
MOST = 20_000


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return export(tmp_path_factory.mktemp("served") / "m", 5)


@contextlib.contextmanager
def served(path, **options):
    limits = Limits(max_request_bytes=MOST)
    server = Server(path, port=0, grpc_port=0, limits=limits, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(path):
    with served(path, cors_origins=["https://shop.example"]) as server:
        yield server


def sent(client, body, encoding="gzip"):
    return client.predict(body, **{"Content-Encoding": encoding})


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", "identity"])
def test_compressed_bodies(client, encoding):
    body = BODY if encoding == "identity" else gzip.compress(BODY)
    status, answer = sent(client, body, encoding)
    assert status == 200
    assert answer["outputs"]["ids"] == expected(5, ["u3"], [0.0], 5)[0]


def test_a_compressed_body_in_chunks(client):
    packed = gzip.compress(BODY)
    headers = {"Content-Encoding": "gzip"}
    parts = (packed[n : n + 7] for n in range(0, len(packed), 7))
    path = "/v1/models/retrieval:predict"
    assert client.ask("POST", path, parts, headers)[0] == 200


@pytest.mark.parametrize(
    ("body", "encoding", "status", "message"),
    [
        (gzip.compress(BODY)[:-1], "gzip", 400, "cut off"),
        (gzip.compress(BODY) + b"x", "gzip", 400, "followed by"),
        (gzip.compress(BODY) * 2, "gzip", 400, "followed by"),
        (BODY, "gzip", 400, "by gzip, received none"),
        (zlib.compress(BODY), "gzip", 400, "by gzip, received none"),
        (b"", "gzip", 400, "cut off"),
        (BODY, "br", 400, "gzip or none, received 'br'"),
        (gzip.compress(gzip.compress(BODY)), "gzip, gzip", 400, "gzip or none"),
        (gzip.compress(BODY + b" " * (MOST - len(BODY))), "gzip", 200, ""),
        (gzip.compress(BODY + b" " * (MOST + 1 - len(BODY))), "gzip", 413, "20001"),
    ],
)
def test_compressed_bodies_that_are_refused(client, body, encoding, status, message):
    found, answer = sent(client, body, encoding)
    assert found == status and message in answer.get("error", "")
    assert client.predict(BODY)[0] == 200


def test_a_body_that_grows_a_thousandfold_costs_nothing(server, client):
    """16 MiB in 16 KiB: no more is made of it than a body may have."""
    bomb = gzip.compress(bytes(2**24))
    assert len(bomb) < MOST
    start = time.perf_counter()
    for _ in range(100):
        assert sent(client, bomb)[0] == 413
    assert time.perf_counter() - start < 10
    assert server.service.bytes_in_flight.held == 0


def fields(server, method, origin, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    path = "/v1/models/retrieval:predict"
    body = BODY if method == "POST" else None
    connection.request(method, path, body, {"Origin": origin, **headers})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}


ALLOWED = "access-control-allow-origin"


@row("pages of other origins")
def test_pages_of_an_origin_that_may_ask(server):
    status, found = fields(server, "POST", "https://shop.example")
    assert status == 200 and found[ALLOWED] == "https://shop.example"
    preflight = {"Access-Control-Request-Method": "POST"}
    preflight["Access-Control-Request-Headers"] = "content-type"
    status, found = fields(server, "OPTIONS", "https://shop.example", **preflight)
    assert status == 200 and found[ALLOWED] == "https://shop.example"
    assert "POST" in found["access-control-allow-methods"]
    status, found = fields(server, "OPTIONS", "https://evil.example", **preflight)
    assert status == 400 and ALLOWED not in found
    status, found = fields(server, "POST", "https://evil.example")
    assert ALLOWED not in found


@SLOW
def test_all_origins_and_none(path):
    with served(path, cors_origins=["*"]) as server:
        assert fields(server, "POST", "https://any.example")[1][ALLOWED] == "*"
    with served(path) as server:
        status, found = fields(server, "POST", "https://any.example")
        assert status == 200 and ALLOWED not in found
        assert fields(server, "OPTIONS", "https://any.example")[0] == 405


def openssl(*words, cwd):
    command = ["openssl", *map(str, words)]
    subprocess.run(command, cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """An authority, and what it vouches for: a server and a client."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl, to make certificates")
    folder = tmp_path_factory.mktemp("keys")
    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    more = ["-x509", "-days", 2, "-subj", "/CN=authority"]
    # Python asks for it, and for the identifiers of keys, from 3.13 on.
    more += ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
    openssl(*new, *more, "-keyout", "ca.key", "-out", "ca.pem", cwd=folder)
    (folder / "names").write_text(
        "subjectAltName=DNS:localhost,IP:127.0.0.1\n"
        "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
    )
    for name in ("server", "client"):
        subject = ["-subj", f"/CN={name}", "-keyout", f"{name}.key"]
        openssl(*new, *subject, "-out", f"{name}.csr", cwd=folder)
        signed = ["x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem"]
        signed += ["-CAkey", "ca.key", "-CAcreateserial", "-days", 2]
        signed += ["-extfile", "names", "-out", f"{name}.pem"]
        openssl(*signed, cwd=folder)
    return folder


def ask_rest(server, context):
    connection = http.client.HTTPSConnection(
        "127.0.0.1", server.port, timeout=60, context=context
    )
    try:
        connection.request("POST", "/v1/models/retrieval:predict", BODY)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())["outputs"]["ids"]
    finally:
        connection.close()


def ask_grpc(server, credentials):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "retrieval"
    for name, value in INPUTS.items():
        dtype = {"k": tf.int32, "shift": tf.float32}.get(name)
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value, dtype))
    address = f"localhost:{server.grpc_port}"
    with grpc.secure_channel(address, credentials) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        outputs = stub.Predict(request, timeout=10).outputs
    return tf.make_ndarray(outputs["ids"]).astype(str).tolist()


@row("TLS")
@pytest.mark.parametrize("both", some_of([False, True], [True]))
def test_tls(path, keys, both):
    """Of the server alone, and of clients too, over both protocols."""
    ca = keys / "ca.pem" if both else None
    tls = TlsFiles(keys / "server.pem", keys / "server.key", ca)
    ids = expected(5, ["u3"], [0.0], 5)[0]
    authority = (keys / "ca.pem").read_bytes()
    pair = [(keys / f"client.{end}").read_bytes() for end in ("key", "pem")]
    with served(path, tls=tls) as server:
        anonymous = ssl.create_default_context(cafile=keys / "ca.pem")
        known = ssl.create_default_context(cafile=keys / "ca.pem")
        known.load_cert_chain(keys / "client.pem", keys / "client.key")
        assert ask_rest(server, known) == (200, ids)
        with_pair = grpc.ssl_channel_credentials(authority, *pair)
        assert ask_grpc(server, with_pair) == ids
        without = grpc.ssl_channel_credentials(authority)
        if both:
            with pytest.raises(OSError):
                ask_rest(server, anonymous)
            with pytest.raises(grpc.RpcError):
                ask_grpc(server, without)
        else:
            assert ask_rest(server, anonymous) == (200, ids)
            assert ask_grpc(server, without) == ids
        # Nobody is answered in the clear.
        client = Client(server.port)
        with pytest.raises((OSError, http.client.HTTPException)):
            client.predict(BODY)
        client.close()
        assert ask_rest(server, known) == (200, ids)


def test_files_that_are_no_certificate_and_key(path, keys, tmp_path):
    (tmp_path / "text").write_text("no key")
    for wrong in (
        TlsFiles(keys / "server.pem", keys / "client.key"),
        TlsFiles(keys / "server.pem", tmp_path / "none"),
        TlsFiles(tmp_path / "text", keys / "server.key"),
        TlsFiles(keys / "server.pem", keys / "server.key", tmp_path / "text"),
    ):
        with pytest.raises(ValueError, match="TLS needs a certificate and its private"):
            Server(path, port=0, grpc_port=0, tls=wrong)


def test_health_over_grpc(path):
    """By name, unknown ones, and whoever watches is told of the end."""
    serving = health_pb2.HealthCheckResponse.SERVING
    with served(path) as server:
        channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", "tensorflow.serving.PredictionService"):
            request = health_pb2.HealthCheckRequest(service=name)
            assert stub.Check(request, timeout=60).status == serving
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="x"), timeout=60)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(watch).status == serving
        seen = []

        def look():
            seen.append(next(watch).status)
            watch.cancel()  # Else the server would wait for it.

        thread = threading.Thread(target=look)
        thread.start()
    thread.join()
    assert seen == [health_pb2.HealthCheckResponse.NOT_SERVING]
    channel.close()
