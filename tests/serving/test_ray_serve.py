"""The example of many hosts, on this one."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from served_models import Client, expected, export
from split_corpus import USERS_TABLE, Corpus, check, export_tower, parts_of

ROOT = pathlib.Path(__file__).parents[2]


@contextlib.contextmanager
def example(model, *options):
    """A client of the example, which runs meanwhile."""
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    command = [sys.executable, ROOT / "examples" / "ray_serve.py", model, *options]
    process = subprocess.Popen(
        [*map(str, command), "--port", str(port), "--processors", "0.2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    )
    try:
        lines = iter(process.stdout.readline, "")
        assert any(line.startswith("Serving") for line in lines)
        client = Client(port)
        yield client
        client.close()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


@pytest.mark.slow(reason="starts a cluster of Ray")
def test_replicas_behind_ray_serve(tmp_path):
    export(tmp_path / "m", 5)
    with example(tmp_path / "m") as client:
        for k in range(1, 21):
            inputs = {"user": ["u3"], "shift": [[0.5]], "k": k}
            status, answer = client.predict({"inputs": inputs})
            assert status == 200
            assert answer["outputs"]["ids"] == expected(5, ["u3"], [0.5], k)[0]
        status, answer = client.predict({"inputs": {**inputs, "k": 0}})
        assert status == 400 and "k must be from 1" in answer["error"]


@pytest.mark.slow(reason="starts a cluster of Ray")
def test_shards_behind_ray_serve(tmp_path):
    tower, corpus = export_tower(tmp_path / "tower"), Corpus(1, 40)
    options = []
    for n, rows in enumerate(parts_of(40, 2, np.random.default_rng(0))):
        options += ["--shard", corpus.export(tmp_path / str(n), tower, rows)]
    with example(tower, *options) as client:
        for user in range(5):
            status, answer = client.predict({"inputs": {"user": [user], "k": 9}})
            assert status == 200, answer
            check(answer["outputs"], 0, corpus.best(USERS_TABLE[user], 9))
            assert answer["outputs"]["missing_shards"] == [[]]
