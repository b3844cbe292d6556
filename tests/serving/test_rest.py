"""The REST protocol of TensorFlow Serving, against sorting in NumPy."""

import base64
import json
import socket

import numpy as np
import pytest
from served_models import SIGNATURE, expected, export, normal

from tfrs_negatives.serving import Limits, Server

USERS, SHIFTS = ["u3", "u7", "u99"], [0.5, -1.0, 0.0]
COLUMNS = {"user": USERS, "shift": [[s] for s in SHIFTS]}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "model"
    export(path, 1)
    limits = Limits(max_batch=16, max_answers=200, max_request_bytes=20_000)
    server = Server(path, port=0, grpc_port=0, limits=limits)
    server.start()
    yield server
    server.stop()


def rows(columns, **scalars):
    """The same request in rows."""
    names = list(columns)
    return [
        {**dict(zip(names, row, strict=True)), **scalars}
        for row in zip(*columns.values(), strict=True)
    ]


def check(outputs, k, exclusions=None):
    ids, scores = expected(1, USERS, SHIFTS, k, exclusions=exclusions)
    assert outputs["ids"] == ids
    np.testing.assert_allclose(outputs["scores"], scores, rtol=1e-4, atol=1e-5)
    titles = [["é " + i.split("-")[1] for i in row] for row in ids]
    assert outputs["title"] == titles
    one = {"b64": base64.b64encode(b"\xff").decode()}
    assert outputs["raw_bytes"] == [[one] * k] * len(ids)


@pytest.mark.parametrize("path", [":predict", "/versions/1:predict"])
@pytest.mark.parametrize("k", [1, 7, 40])
def test_columns_and_rows(client, k, path):
    status, answer = client.predict({"inputs": {**COLUMNS, "k": k}}, path)
    assert status == 200 and set(answer) == {"outputs"}
    check(answer["outputs"], k)
    status, answer = client.predict({"instances": rows(COLUMNS, k=k)}, path)
    assert status == 200 and set(answer) == {"predictions"}
    names = answer["predictions"][0]
    check({name: [row[name] for row in answer["predictions"]] for name in names}, k)


def test_k_may_be_left_out(client):
    """It is then that of the index."""
    check(client.predict({"inputs": COLUMNS})[1]["outputs"], 10)
    answer = client.predict({"instances": rows(COLUMNS)})[1]["predictions"]
    check({name: [row[name] for row in answer] for name in answer[0]}, 10)
    exclusions = expected(1, USERS, SHIFTS, 2)[0]
    request = {
        "signature_name": "with_exclusions",
        "inputs": {**COLUMNS, "exclusions": exclusions},
    }
    check(client.predict(request)[1]["outputs"], 10, exclusions)
    some = [{**row, "k": 3} if n else row for n, row in enumerate(rows(COLUMNS))]
    status, answer = client.predict({"instances": some})
    assert status == 400 and "'k' must be the same in all rows" in answer["error"]


def test_exclusions(client):
    best = expected(1, USERS, SHIFTS, 2)[0]
    exclusions = [[best[0][0], ""], [best[1][0], best[1][1]], ["", ""]]
    request = {
        "signature_name": "with_exclusions",
        "inputs": {**COLUMNS, "k": 5, "exclusions": exclusions},
    }
    status, answer = client.predict(request)
    assert status == 200
    check(answer["outputs"], 5, exclusions)
    request["inputs"]["exclusions"] = [[], [], []]
    status, answer = client.predict(request)
    assert status == 200
    check(answer["outputs"], 5)


def test_one_output_stands_alone(client):
    table = normal(0, 100, 8)[[3, 7, 99]] + np.reshape(SHIFTS, [3, 1])
    request = {"signature_name": "embed_query", "inputs": COLUMNS}
    np.testing.assert_allclose(client.predict(request)[1]["outputs"], table, rtol=1e-5)
    request = {"signature_name": "embed_query", "instances": rows(COLUMNS)}
    answer = client.predict(request)[1]
    np.testing.assert_allclose(answer["predictions"], table, rtol=1e-5)


def test_base64_and_numbers_of_all_kinds(client):
    ann = {"b64": base64.b64encode(b"u3").decode()}
    inputs = {"user": [ann, "u7"], "shift": [[1], [1e0]], "k": 3}
    ids, _ = expected(1, ["u3", "u7"], [1, 1], 3)
    assert client.predict({"inputs": inputs})[1]["outputs"]["ids"] == ids


def test_answers_that_are_no_finite_numbers(client):
    """Too few candidates are left: id "" and score null, for JSON has no infinity."""
    best = expected(1, ["u3"], [0.0], 40)[0][0]
    inputs = {"user": ["u3"], "shift": [[0]], "k": 3, "exclusions": [best[:38]]}
    request = {"signature_name": "with_exclusions", "inputs": inputs}
    status, answer = client.predict(request)
    assert status == 200
    assert answer["outputs"]["ids"] == [[*best[38:], ""]]
    scores = answer["outputs"]["scores"][0]
    assert scores[2] is None and all(isinstance(s, float) for s in scores[:2])


def test_status_metadata_and_health(client):
    state = {
        "version": "1",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    for path in ("", "/versions/1"):
        answer = client.get(f"/v1/models/retrieval{path}")
        assert answer == (200, {"model_version_status": [state]})
        status, answer = client.get(f"/v1/models/retrieval{path}/metadata")
        assert status == 200
        assert answer["model_spec"]["version"] == "1"
        signatures = answer["metadata"]["signature_def"]["signature_def"]
        assert set(signatures) == {"serving_default", "with_exclusions", "embed_query"}
        inputs = signatures["serving_default"]["inputs"]
        assert set(inputs) == {*SIGNATURE, "k"}
        assert inputs["shift"]["dtype"] == "DT_FLOAT"
        sizes = [one["size"] for one in inputs["shift"]["tensor_shape"]["dim"]]
        assert sizes == ["-1", "1"]
    for path in ("live", "ready"):
        assert client.get(f"/healthz/{path}") == (200, {"version": 1})


ONE = {"user": ["u3"], "shift": [[0.0]], "k": 2}
ROW = {"user": "u3", "shift": [0.0], "k": 2}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Expected JSON"),
        (b"{", "Expected JSON"),
        (b"\xff\xfe", "Expected JSON"),
        (b"[" * 5000, "Expected JSON"),
        (b'{"inputs": {"k": ' + b"9" * 5000 + b"}}", "Expected JSON"),
        (b"[]", "Expected a JSON object, received an empty list"),
        (b"7", "received a whole number"),
        ({}, "received neither"),
        ({"inputs": ONE, "instances": [ROW]}, "received 'inputs', 'instances'"),
        ({"input": ONE}, "received 'input'"),
        ({"inputs": ONE, "signature_name": 3}, '"signature_name" must be a string'),
        ({"inputs": ONE, "signature_name": "x"}, "a signature out of embed_query, ser"),
        ({"inputs": {**ONE, "age": [1]}}, "may be left out), received age, k"),
        ({"inputs": {"k": 2}}, "may be left out), received k."),
        ({"inputs": {}}, "received none"),
        ({"inputs": "u3"}, "received values without names"),
        ({"instances": []}, "at least one row, received an empty list"),
        ({"instances": {"user": 1}}, "a list of at least one row, received an object"),
        ({"instances": [ROW, 3]}, "row 1 is not"),
        ({"instances": [ROW, {**ROW, "k": 3}]}, "'k' must be the same in all rows"),
        ({"instances": [ROW, {"user": "u1"}]}, "received user"),
        ({"inputs": {**ONE, "user": [3]}}, "'user' must hold strings"),
        ({"inputs": {**ONE, "user": [None]}}, "received null"),
        ({"inputs": {**ONE, "user": [{"b64": "?"}]}}, "'user' must hold strings"),
        ({"inputs": {**ONE, "user": [{"b65": ""}]}}, "'user' must hold strings"),
        ({"inputs": {**ONE, "user": "u3"}}, "'user' must have shape (None,), rec"),
        ({"inputs": {**ONE, "user": []}}, "the same number of rows"),
        ({"inputs": {**ONE, "user": ["u3", "u4"]}}, "the same number of rows"),
        ({"inputs": {"user": [], "shift": [], "k": 2}}, "at least one row"),
        ({"inputs": {**ONE, "shift": [["1"]]}}, "'shift' must hold numbers (float32)"),
        ({"inputs": {**ONE, "shift": [[True]]}}, "received a truth value"),
        ({"inputs": {**ONE, "shift": [[1, 2]]}}, "'shift' must have shape (None, 1)"),
        ({"inputs": {**ONE, "shift": [[1], [2, 3]]}}, "in lists of equal length"),
        # Deeper than NumPy goes.
        (
            b'{"inputs": {"user": ["u3"], "shift": [[0]], "k": %b2%b}}'
            % (b"[" * 40, b"]" * 40),
            "'k' must have shape (), received lists of depth",
        ),
        ({"inputs": {**ONE, "a" * 9000: 1}}, "Expected the inputs k, shift, user (k"),
        ({"inputs": {**ONE, "k": 0}}, "k must be from 1 to the number of candidates"),
        ({"inputs": {**ONE, "k": 41}}, "candidates, 40, received 41"),
        ({"inputs": {**ONE, "k": -(2**31)}}, "k must be from 1"),
        ({"inputs": {**ONE, "k": 2**31}}, "'k' must hold whole numbers (int32)"),
        ({"inputs": {**ONE, "k": 2.0}}, "'k' must hold whole numbers (int32)"),
        ({"inputs": {**ONE, "k": True}}, "received a truth value"),
        ({"inputs": {**ONE, "k": [2]}}, "'k' must have shape ()"),
        # The tower itself refuses it.
        ({"inputs": {**ONE, "user": ["u?"]}}, "StringToNumberOp"),
    ],
)
def test_malformed_requests(client, body, message):
    status, answer = client.predict(body)
    assert status == 400
    assert set(answer) == {"error"} and message in answer["error"]
    assert len(answer["error"].splitlines()) == 1
    assert len(answer["error"]) < 600
    # And the connection goes on.
    assert client.predict({"inputs": ONE})[0] == 200


def test_what_fails_inside_fails_no_more_than_its_request(server, client, monkeypatch):
    version = server.service.versions.current
    run = version.run

    def broken(signature, inputs):
        if b"u13" in inputs["user"]:
            raise RuntimeError("a defect")
        return run(signature, inputs)

    monkeypatch.setattr(version, "run", broken)
    bad = {"inputs": {**ONE, "user": ["u13"]}}
    assert client.predict(bad) == (500, {"error": "internal error"})
    client.close()
    assert client.predict({"inputs": ONE})[0] == 200


def test_oversized_requests(client):
    many = {"user": ["u3"] * 17, "shift": [[0.0]] * 17}
    status, answer = client.predict({"inputs": {**many, "k": 1}})
    assert status == 413 and "16 rows, received 17" in answer["error"]
    inputs = {"user": ["u3"] * 6, "shift": [[0.0]] * 6, "k": 40}
    status, answer = client.predict({"inputs": inputs})
    assert status == 413 and "may be 200, received 6 x 40" in answer["error"]
    body = json.dumps({"inputs": ONE}).encode() + b" " * 20_000
    status, answer = client.predict(body)
    assert status == 413 and "20000 bytes" in answer["error"]
    client.close()
    # Without a length, it is read no further than the limit.
    parts = (b" " * 1000 for _ in range(30))
    status, answer = client.ask("POST", "/v1/models/retrieval:predict", parts)
    assert status == 413 and "20000 bytes" in answer["error"]
    client.close()
    assert client.predict({"inputs": ONE})[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("POST", "/v1/models/other:predict", 404, "'retrieval' is served"),
        ("POST", "/v1/models/retrieval/versions/2:predict", 404, "Version 1 of"),
        ("GET", "/v1/models/other", 404, "'retrieval' is served"),
        ("GET", "/v1/models/other/metadata", 404, "'retrieval' is served"),
        ("GET", "/v1/models/retrieval/versions/9", 404, "has the versions 1"),
        ("GET", "/v1/models/retrieval/versions/x", 404, "Not Found"),
        ("POST", "/v1/models/retrieval:classify", 405, "Method Not Allowed"),
        ("GET", "/", 404, "Not Found: GET /"),
    ],
)
def test_paths(client, method, path, status, message):
    found, answer = client.ask(method, path, b"{}" if method == "POST" else None)
    assert found == status
    assert set(answer) == {"error"} and message in answer["error"]


@pytest.mark.parametrize("digits", [19, 4300, 5000, 30_000])
def test_versions_of_many_digits(client, digits):
    """Python refuses to read more than 4,300."""
    for method, end in [("POST", ":predict"), ("GET", ""), ("GET", "/metadata")]:
        path = f"/v1/models/retrieval/versions/{'9' * digits}{end}"
        status, answer = client.ask(method, path, b"{}" if method == "POST" else None)
        assert status == 404 and "Not Found" in answer["error"]


def test_nothing_is_made_of_the_host_field(client):
    """As redirects were, to wherever it said."""
    for path in ("/healthz/live/", "/v1/models/retrieval/"):
        status, answer = client.ask("GET", path, headers={"Host": "evil.example"})
        assert status == 404 and "evil" not in answer["error"]


def raw(server, *fields, body=b""):
    """What comes back for header fields, until the server closes or is silent."""
    text = b"POST /v1/models/retrieval:predict HTTP/1.1\r\n" + b"\r\n".join(fields)
    with socket.create_connection(("127.0.0.1", server.port), timeout=2) as one:
        one.sendall(text + b"\r\n\r\n" + body)
        answer, closed = b"", False
        try:
            while part := one.recv(2**16):
                answer += part
            closed = True
        except TimeoutError:
            pass
    return answer, closed


ONE_BODY = json.dumps({"inputs": ONE}).encode()
LENGTH = b"content-length: %d" % len(ONE_BODY)


@pytest.mark.parametrize(
    "fields",
    [
        [LENGTH, b"transfer-encoding: chunked"],
        [b"Transfer-Encoding: chunked", LENGTH],
        [LENGTH, b"content-length: 3"],
        [LENGTH, b"host: other"],
        [LENGTH, b"content-type: text/plain", b"Content-Type: application/json"],
    ],
)
def test_fields_that_say_two_things(server, fields):
    answer, closed = raw(server, b"host: x", *fields, body=ONE_BODY)
    assert answer.startswith(b"HTTP/1.1 400 ") and closed
    # Nothing else was read from there.
    assert answer.count(b"HTTP/1.1") == 1


def test_fields_that_may_be_repeated(server):
    fields = [b"host: x", LENGTH, b"accept: a/b", b"accept: c/d"]
    assert raw(server, *fields, body=ONE_BODY)[0].startswith(b"HTTP/1.1 200 ")


def test_what_is_no_http_after_a_request(server, caplog):
    """It comes with the request, and is answered before that."""
    fields = [b"host: x", b"content-length: 3", b"transfer-encoding: chunked"]
    answer, closed = raw(server, *fields, body=b"zz\r\n" * 9)
    assert answer.startswith(b"HTTP/1.1 400 ") and closed
    assert answer.count(b"HTTP/1.1") == 1
    assert not [one for one in caplog.records if one.exc_info]
