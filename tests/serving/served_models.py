"""Small exports to serve, what they must answer, and clients."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf

pytest.importorskip("fastapi", reason="serving needs the extra serve")
pytest.importorskip("tensorflow_serving", reason="serving needs the extra serve")

from tfrs_negatives.index import BruteForce, ScaNN, export_retrieval  # noqa: E402

WIDTH = 8


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class Tower(tf.Module):
    """Raw strings and numbers in; the embedding is a product, with no Keras."""

    def __init__(self):
        super().__init__()
        self.users = tf.Variable(normal(0, 100, WIDTH))

    def __call__(self, features):
        known = tf.strings.to_number(tf.strings.substr(features["user"], 1, 3))
        return tf.gather(self.users, tf.cast(known, tf.int32)) + features["shift"]


SIGNATURE = {
    "user": tf.TensorSpec([None], tf.string),
    "shift": tf.TensorSpec([None, 1], tf.float32),
}


def export(path, seed, num=40, index_class=BruteForce, versioned=False, **options):
    """Exports candidates "s0", "s1", ... of a seed; returns the folder."""
    return export_retrieval(
        path,
        Tower(),
        index_class().index(normal(seed, num, WIDTH), names(seed, num)),
        query_signature=SIGNATURE,
        payload={"title": [f"é {n}" for n in range(num)], "raw_bytes": [b"\xff"] * num},
        versioned=versioned,
        **options,
    )


def names(seed, num=40):
    return [f"{seed}-{n}" for n in range(num)]


def expected(seed, users, shifts, k, num=40, exclusions=None):
    """Ids and scores by sorting, in NumPy."""
    table = normal(0, 100, WIDTH).astype(np.float64)
    queries = table[[int(u[1:]) for u in users]] + np.reshape(shifts, [-1, 1])
    scores = queries @ normal(seed, num, WIDTH).astype(np.float64).T
    for row, gone in enumerate(exclusions or []):
        scores[row, [names(seed, num).index(i) for i in gone if i]] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    ids = [[names(seed, num)[n] for n in row] for row in order]
    return ids, np.take_along_axis(scores, order, axis=1)


class Client:
    """Speaks REST over one connection."""

    def __init__(self, port, name="retrieval"):
        self._port, self._name = port, name
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def predict(self, body, path=":predict", **headers):
        """Status, and the answer's JSON."""
        if not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        return self.ask("POST", f"/v1/models/{self._name}{path}", body, headers)

    def get(self, path):
        return self.ask("GET", path)

    def ask(self, method, path, body=None, headers=None):
        self._connection.request(method, path, body, headers or {})
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def close(self):
        self._connection.close()


class Process:
    """`tfrs-negatives serve` in a process of its own."""

    def __init__(self, path, *options, port=0, grpc_port=0):
        command = [sys.executable, "-m", "tfrs_negatives.cli", "serve", str(path)]
        command += ["--port", str(port), "--grpc-port", str(grpc_port), *options]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        # Else the process would stop when the pipe is full.
        self._log = []
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        line = self._process.stdout.readline()
        assert line.startswith("Serving"), "".join(self._log)
        self.port = int(line.split("http://127.0.0.1:")[1].split("/")[0])
        self.grpc_port = int(line.rsplit(":", 1)[1])
        self.pid = self._process.pid

    def _read_log(self):
        self._log.extend(self._process.stderr)

    def end(self, how=signal.SIGTERM):
        """Ends the process; returns its exit code and what it logged."""
        if self._process.poll() is None:
            os.kill(self.pid, how)
        code = self._process.wait(timeout=60)
        self._reader.join()
        self._process.stdout.close()
        self._process.stderr.close()
        return code, "".join(self._log)


INDEXES = [BruteForce, ScaNN]
