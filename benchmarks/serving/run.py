"""Latency and throughput of `tfrs-negatives serve`, under load from another process.

    apt-get install wrk; pip install -e ".[serve,scann]" psutil
    python benchmarks/serving/run.py --output benchmarks/serving/results.csv

Clients ask for the 10 best of N candidates (d = 64) for one random user a request, and
get ids, scores and titles. REST is loaded by wrk, gRPC by `grpc_load.py`; client and
server share the machine. Rows with `versions` had so many new versions of the model
swapped in during the load. `failed` counts connection errors, time-outs and statuses
other than 200. `server_cpu_ms` is the server's processor time for a request, that of
loading new versions included.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import psutil

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent))

import csv_rows  # noqa: E402
from provenance import provenance  # noqa: E402

PACKAGES = "tensorflow", "scann", "fastapi", "uvicorn", "httptools", "grpcio", "numpy"
FIELDS = (
    "protocol index num_candidates width connections versions p50_ms p99_ms "
    "requests_per_second requests failed server_cpu_ms device versions_of commit"
).split()
WIDTH, NUM_USERS = 64, 100_000


def export(path, index_name, num_candidates, seed):
    """Exports a model of users' ids; returns its folder."""
    import tensorflow as tf

    from tfrs_negatives import index as indexes

    rng = np.random.default_rng(seed)
    tower = tf.Module()
    tower.users = tf.Variable(rng.normal(size=[NUM_USERS, WIDTH]).astype(np.float32))

    def embed(users):
        row = tf.strings.to_hash_bucket_fast(users, NUM_USERS)
        return tf.gather(tower.users, row)

    candidates = rng.normal(size=[num_candidates, WIDTH]).astype(np.float32)
    ids = [f"item {n}" for n in range(num_candidates)]
    return indexes.export_retrieval(
        path,
        embed,
        getattr(indexes, index_name)().index(candidates, ids),
        query_signature=tf.TensorSpec([None], tf.string, name="user"),
        payload={"title": [f"The title of item {n}" for n in range(num_candidates)]},
    )


def start_server(path):
    """A server's process, and its ports."""
    command = [sys.executable, "-m", "tfrs_negatives.cli", "serve", path]
    process = subprocess.Popen(
        [
            *map(str, command),
            "--port",
            "0",
            "--grpc-port",
            "0",
            "--poll-seconds",
            "0.5",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    line = process.stdout.readline()
    rest = int(line.split("http://127.0.0.1:")[1].split("/")[0])
    return process, {"REST": rest, "gRPC": int(line.rsplit(":", 1)[1])}


def load(protocol, port, connections, seconds):
    """Starts a load."""
    if protocol == "REST":
        url = f"http://127.0.0.1:{port}/v1/models/retrieval:predict"
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--timeout",
            "30s",
        ]
        command += ["-s", HERE / "predict.lua", url]
    else:
        command = [sys.executable, HERE / "grpc_load.py", f"127.0.0.1:{port}"]
        command += [connections, seconds]
    return subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True)


def processor_seconds(process):
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


def measure(server, port, protocol, connections, seconds, root, exports):
    """One row; `exports` are copied in as versions while the load runs."""
    before = processor_seconds(server)
    client = load(protocol, port, connections, seconds)
    for folder in exports:
        time.sleep(seconds / (len(exports) + 1))
        number = 1 + max(int(p.name) for p in root.iterdir() if p.name.isdecimal())
        shutil.copytree(folder, root / f".{number}")
        os.rename(root / f".{number}", root / str(number))
    printed, _ = client.communicate()
    used = processor_seconds(server) - before
    found = json.loads(printed.split("JSON ")[1])
    return {
        "protocol": protocol,
        "connections": connections,
        "versions": len(exports),
        "p50_ms": round(found["p50_ms"], 2),
        "p99_ms": round(found["p99_ms"], 2),
        "requests_per_second": round(found["requests"] / found["seconds"]),
        "requests": found["requests"],
        "failed": found["failed"],
        "server_cpu_ms": round(1000 * used / found["requests"], 3),
    }


def main(arguments):
    rows = []
    source = provenance(PACKAGES)
    shared = {"width": WIDTH, "device": source["device"], "commit": source["commit"]}
    shared["versions_of"] = source["versions"]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for index_name in arguments.indexes:
            shared["index"] = index_name
            shared["num_candidates"] = arguments.candidates
            root = folder / index_name
            wholes = [
                export(
                    folder / f"{index_name}-{seed}",
                    index_name,
                    arguments.candidates,
                    seed,
                )
                for seed in (0, 1)
            ]
            shutil.copytree(wholes[0], root / "1")
            server, ports = start_server(root)
            try:
                for protocol in ("REST", "gRPC"):
                    warm = load(protocol, ports[protocol], 8, 2)
                    warm.communicate()
                    for connections in (1, 8, 64):
                        for new in ([], wholes[::-1]):
                            row = measure(
                                server, ports[protocol], protocol, connections,
                                arguments.seconds, root, new,
                            )  # fmt: skip
                            rows.append({**shared, **row})
                            print({**row, "index": index_name}, flush=True)
            finally:
                server.terminate()
                server.wait()
    csv_rows.write(arguments.output, FIELDS, rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--indexes", nargs="+", default=["BruteForce", "ScaNN"])
    main(parser.parse_args())
