"""The example of many hosts, on this one."""

import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest
from served_models import Client, expected, export

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow(reason="starts a cluster of Ray")
def test_replicas_behind_ray_serve(tmp_path):
    pytest.importorskip("ray")
    export(tmp_path / "m", 5)
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    command = [sys.executable, ROOT / "examples" / "ray_serve.py", tmp_path / "m"]
    process = subprocess.Popen(
        [*map(str, command), "--port", str(port), "--processors", "0.5"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    )
    try:
        lines = iter(process.stdout.readline, "")
        assert any(line.startswith("Serving") for line in lines)
        client = Client(port)
        for k in range(1, 21):
            inputs = {"user": ["u3"], "shift": [[0.5]], "k": k}
            status, answer = client.predict({"inputs": inputs})
            assert status == 200
            assert answer["outputs"]["ids"] == expected(5, ["u3"], [0.5], k)[0]
        status, answer = client.predict({"inputs": {**inputs, "k": 0}})
        assert status == 400 and "k must be from 1" in answer["error"]
        client.close()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
