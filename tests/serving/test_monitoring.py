"""Counts for Prometheus, and logs of answers."""

import http.client
import io
import json
import logging
import re

import numpy as np
import pytest
import tensorflow as tf
from served_models import Client, Process, export

import grpc  # isort: skip
from tensorflow_serving.apis import predict_pb2

from tfrs_negatives.serving import Server
from tfrs_negatives.serving.monitoring import JsonLines, Monitoring

INPUTS = {"user": ["u3"], "shift": [[0.0]], "k": 5}
PREDICT = "/tensorflow.serving.PredictionService/Predict"
# Of Prometheus's text format: name, labels, number.
LINE = re.compile(
    r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:\w+="(?:[^"\\\n]|\\.)*",?)*\})? (\S+)'
)


def scraped(port):
    """Numbers by name and labels; each line is of the format."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/monitoring/prometheus/metrics")
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.getheader("content-type").startswith("text/plain; version=0.0.4")
    text = answer.read().decode()
    connection.close()
    return parsed(text)


def parsed(text):
    assert text.endswith("\n")
    found = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            assert re.fullmatch(r"# TYPE \S+ (counter|gauge|histogram)", line)
            continue
        match = LINE.fullmatch(line)
        assert match, line
        found[match[1] + (match[2] or "")] = float(match[3])
    return found


def message(user="u3"):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "retrieval"
    for name, value in {**INPUTS, "user": [user]}.items():
        dtype = {"k": tf.int32, "shift": tf.float32}.get(name)
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value, dtype))
    return request.SerializeToString()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return export(tmp_path_factory.mktemp("served") / "m", 5)


def test_what_was_answered_is_counted(path, monkeypatch):
    server = Server(path, port=0, grpc_port=0)
    server.start()
    client = Client(server.port)
    for _ in range(3):
        assert client.predict({"inputs": INPUTS})[0] == 200
    assert client.predict(b"{")[0] == 400
    assert client.predict({"inputs": INPUTS}, "/versions/9:predict")[0] == 404
    assert client.get("/nowhere")[0] == 404
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        send = channel.unary_unary(PREDICT)
        for _ in range(2):
            send(message(), timeout=60)
        for wrong in (message("u?"), b"\xff"):
            with pytest.raises(grpc.RpcError):
                send(wrong, timeout=60)

    async def broken(*_):
        raise RuntimeError("a defect")

    monkeypatch.setattr(type(server.service), "predict", broken)
    assert client.predict({"inputs": INPUTS})[0] == 500
    client.close()
    found = scraped(server.port)
    answers = "tfrs_negatives_answers_total"
    for protocol, code, number in [
        ("REST", 200, 3),
        ("REST", 400, 1),
        ("REST", 404, 2),
        ("REST", 500, 1),
        ("GRPC", "OK", 2),
        ("GRPC", "INVALID_ARGUMENT", 1),
        ("GRPC", "INTERNAL", 1),
    ]:
        assert found[f'{answers}{{protocol="{protocol}",code="{code}"}}'] == number
    # Under TensorFlow Serving's own names, of predictions alone.
    for status, number in [
        ("OK", 5),
        ("INVALID_ARGUMENT", 2),
        ("NOT_FOUND", 1),
        ("INTERNAL", 2),
    ]:
        labels = f'model_name="retrieval",status="{status}"'
        assert found[f":tensorflow:serving:request_count{{{labels}}}"] == number
    for protocol, number in [("REST", 6), ("GRPC", 4)]:
        labels = f'model_name="retrieval",API="Predict",entrypoint="{protocol}"'
        name = ":tensorflow:serving:request_latency"
        buckets = [
            value
            for key, value in found.items()
            if key.startswith(name + "_bucket") and f'"{protocol}"' in key
        ]
        assert buckets == sorted(buckets) and buckets[-1] == number
        assert found[f"{name}_count{{{labels}}}"] == number
        assert 0 < found[f"{name}_sum{{{labels}}}"] < 60e6 * number
    version = 'model_name="retrieval",version="1",state="AVAILABLE"'
    assert found[f"tfrs_negatives_version_state{{{version}}}"] == 1
    assert found["tfrs_negatives_bytes_in_flight"] == 0
    assert found["tfrs_negatives_waiting_requests"] == 0
    # The scrape itself is counted by the next.
    assert scraped(server.port)[f'{answers}{{protocol="REST",code="200"}}'] == 4
    server.stop()


def test_times_are_in_their_buckets():
    monitoring = Monitoring('a "name"\n')
    times = np.random.default_rng(0).lognormal(-6, 3, 200)
    for seconds in times:
        monitoring.note("REST", 200, seconds, "POST", "/v1/models/m:predict", "c")
    found = parsed(monitoring.text([], {}))
    for key, number in found.items():
        bound = re.search(r'le="([^"]+)"', key)
        if bound:
            assert number == np.sum(1e6 * times <= float(bound[1].replace("+", "")))
    total = [value for key, value in found.items() if "latency_sum" in key]
    np.testing.assert_allclose(total, [1e6 * times.sum()])
    assert all('a \\"name\\"\\n' in key for key in found if "model_name" in key)


def test_counts_do_not_grow_with_what_clients_send():
    monitoring = Monitoring("m")
    for number in range(100):
        monitoring.note("REST", 404, 1.0, "GET", f"/{number}", f"10.0.0.{number}")
    assert len(parsed(monitoring.text([], {}))) == 1


@pytest.mark.slow(reason="starts two servers")
def test_answers_are_logged_where_asked(path, caplog):
    caplog.set_level(logging.INFO, logger="tfrs_negatives.access")
    for logs in (False, True):
        caplog.clear()
        server = Server(path, port=0, grpc_port=0, logs_answers=logs)
        server.start()
        client = Client(server.port)
        client.predict({"inputs": INPUTS})
        client.ask("GET", "/%1b]0;evil%07" + "x" * 999)
        client.close()
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(PREDICT)(message("u?"), timeout=60)
        server.stop()
        found = [one for one in caplog.records if one.name == "tfrs_negatives.access"]
        assert len(found) == 3 * logs
    first, second, third = (one.fields for one in found)
    assert first["path"] == "/v1/models/retrieval:predict" and first["code"] == 200
    assert first["client"] == "127.0.0.1" and first["method"] == "POST"
    assert 0 < first["milliseconds"] < 60_000
    assert second["code"] == 404 and len(second["path"]) == 200
    assert third["protocol"] == "GRPC" and third["code"] == "INVALID_ARGUMENT"
    # What a terminal would act upon is escaped.
    text = found[1].getMessage()
    assert "\\u001b" in text and text.isprintable()


def test_lines_of_json():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    log = logging.Logger("a.logger")
    log.addHandler(handler)
    log.error("the %s\nof", "text")
    log.info("not this", extra={"fields": {"code": 404, "path": "/é\x1b"}})
    try:
        raise KeyError("gone")
    except KeyError:
        log.exception("failed")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["level"] for line in lines] == ["ERROR", "INFO", "ERROR"]
    assert lines[0]["message"] == "the text\nof" and lines[0]["logger"] == "a.logger"
    assert lines[1]["code"] == 404 and lines[1]["path"] == "/é\x1b"
    assert "KeyError" in lines[2]["exception"] and "\x1b" not in stream.getvalue()
    assert all(re.match(r"\d{4}-\d\d-\d\dT", line["time"]) for line in lines)


@pytest.mark.slow(reason="a server in a process of its own")
def test_the_command_logs_json(path):
    server = Process(path, "--access-log", "--log-format", "json")
    client = Client(server.port)
    assert client.predict(b"{")[0] == 400
    client.close()
    code, log = server.end()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert code == 0
    assert [line["code"] for line in lines if "code" in line] == [400]
    assert any("version 1 answers" == line.get("message") for line in lines)
