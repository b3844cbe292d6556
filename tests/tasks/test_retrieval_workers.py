"""Two processes, and two replicas of one, compute what one device does.

Loss and every gradient of five steps (the last of them uneven), and then weights,
estimator, queue and all metrics, as each worker has them.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import replica_worker

pytestmark = pytest.mark.slow(reason="unequal rows of two replicas are fast")

SCRIPT = pathlib.Path(__file__).parent / "replica_worker.py"


@pytest.fixture(scope="module")
def expected():
    found = replica_worker.train()
    assert len([name for name in found if name.startswith("step")]) == 5 * 3
    measured = [value for name, value in found.items() if name.startswith("metric")]
    assert len(measured) == 7 and all(0 < value.min() < 1 for value in measured)
    return found


def compare(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(
            found[name], value, rtol=1e-5, atol=1e-5, err_msg=name
        )


def test_two_replicas(two_replicas, expected):
    compare(replica_worker.train(two_replicas), expected)


def free_ports(number):
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("localhost", 0))
    found = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return found


def test_two_processes(tmp_path, expected):
    addresses = [f"localhost:{port}" for port in free_ports(2)]
    workers = []
    for index in range(2):
        config = {
            "cluster": {"worker": addresses},
            "task": {"type": "worker", "index": index},
        }
        workers.append(
            subprocess.Popen(
                [sys.executable, SCRIPT, tmp_path / f"{index}.npz"],
                env={**os.environ, "TF_CONFIG": json.dumps(config)},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    errors = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    for index in range(2):
        compare(dict(np.load(tmp_path / f"{index}.npz")), expected)
