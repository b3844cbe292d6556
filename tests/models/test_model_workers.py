"""`fit` in two processes is `fit` in one, also where a worker dies on the way."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

HERE = pathlib.Path(__file__).parent
SCRIPT = HERE / "multi_worker_training.py"
DISAGREEING = HERE / "disagreeing_worker.py"
# Within this time the others notice that a worker is gone (see docs/distribution.md).
NOTICED = 120


def ports(number):
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("localhost", 0))
    found = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return found


def start(result, *arguments, workers=2, killed=None):
    """Starts the workers; `arguments` of each, but for who is to be killed."""
    given = [[result, *arguments] for _ in range(workers)]
    if killed is not None:
        given[killed[0]].append(killed[1])
    return start_each(SCRIPT, given)


def start_each(script, arguments):
    """Starts one worker for each list of arguments."""
    addresses = [f"localhost:{port}" for port in ports(len(arguments))]
    processes = []
    for index, given in enumerate(arguments):
        config = {
            "cluster": {"worker": addresses},
            "task": {"type": "worker", "index": index},
        }
        processes.append(
            subprocess.Popen(
                [sys.executable, script, *map(str, given)],
                env={**os.environ, "TF_CONFIG": json.dumps(config)},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return processes


def finish(processes, timeout=300):
    errors = []
    for process in processes:
        _, error = process.communicate(timeout=timeout)
        errors.append(error)
    return [process.returncode for process in processes], errors


def one_process(result):
    environment = {k: v for k, v in os.environ.items() if k != "TF_CONFIG"}
    subprocess.run([sys.executable, SCRIPT, result], env=environment, check=True)


def assert_same(result, expected):
    found, expected = np.load(result), np.load(expected)
    assert found.files == expected.files and len(found.files) > 10
    for name in expected.files:
        np.testing.assert_allclose(
            found[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name
        )


@pytest.mark.slow(reason="trains in processes of their own")
def test_two_processes_are_one(tmp_path):
    codes, errors = finish(start(tmp_path / "two.npz"))
    assert codes == [0, 0], errors
    one_process(tmp_path / "one.npz")
    assert_same(tmp_path / "two.npz", tmp_path / "one.npz")


@pytest.mark.slow(reason="trains in processes of their own")
def test_a_killed_worker(tmp_path, keras_2):
    """The other one fails in time, and both go on from the last epoch's end."""
    result, backup = tmp_path / "cut.npz", tmp_path / "backup"
    workers = start(result, backup, killed=(1, 6))
    workers[1].wait(timeout=300)
    assert workers[1].returncode == -signal.SIGKILL
    killed_at = time.monotonic()
    codes, errors = finish(workers, timeout=NOTICED)
    assert time.monotonic() - killed_at < NOTICED
    assert codes[0] != 0 and not result.exists()
    assert "UnavailableError" in errors[0]

    codes, errors = finish(start(result, backup))
    assert codes == [0, 0], errors
    one_process(tmp_path / "whole.npz")
    assert_same(result, tmp_path / "whole.npz")


@pytest.mark.slow(reason="trains in processes of their own")
@pytest.mark.parametrize("other", [("float64", 3), ("float32", 4)])
def test_workers_that_disagree(other):
    """Both fail at once and say what differs: nothing hangs."""
    started = start_each(DISAGREEING, [("float32", 3), other])
    codes, errors = finish(started, timeout=NOTICED)
    assert all(codes)
    difference = "data_type" if other[0] == "float64" else "Shape mismatch"
    assert any(difference in error for error in errors)
