"""Latency and throughput of `tfrs-negatives serve`, under load from another process.

    apt-get install wrk; pip install -e ".[serve,scann]" psutil
    python -m benchmarks.serving.run

Clients ask for the 10 best of N candidates (d = 64) for one random user a request, and
get ids, scores and titles. REST is loaded by wrk, gRPC by `grpc_load.py`; client and
server share the machine. Rows with `versions` had so many new versions of the model
swapped in during the load. `failed` counts connection errors, time-outs and statuses
other than 200. `server_cpu_ms` is the server's processor time for a request, that of
loading new versions included.
"""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import numpy as np
import psutil
import tensorflow as tf

from benchmarks.common import command_line, csv_rows
from benchmarks.common.provenance import PROJECT, provenance
from benchmarks.common.worker_process import in_folder, module_command
from tfrs_negatives import index as indexes

ROWS = pathlib.Path(__file__).with_name("results.csv")
SCRIPT = pathlib.Path(__file__).with_name("predict.lua")
PACKAGES = "tensorflow", "scann", "fastapi", "uvicorn", "httptools", "grpcio", "numpy"
FIELDS = (
    "protocol index num_candidates width connections versions p50_ms p99_ms "
    "requests_per_second requests failed server_cpu_ms device versions_of commit"
).split()
WIDTH, NUM_USERS = 64, 100_000


def export(path, index_name, num_candidates, seed):
    """Exports a model of users' ids; returns its folder."""
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


def start_server(path, folder=PROJECT):
    """A server's process, of the package in a folder, and its ports."""
    words = ["serve", path, "--port", 0, "--grpc-port", 0, "--poll-seconds", 0.5]
    process = subprocess.Popen(
        module_command("tfrs_negatives.cli", *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        **in_folder(folder),
    )
    line = process.stdout.readline()
    rest = int(line.split("http://127.0.0.1:")[1].split("/")[0])
    return process, {"REST": rest, "gRPC": int(line.rsplit(":", 1)[1])}


def load(protocol, port, connections, seconds):
    """Starts a load."""
    if protocol == "REST":
        url = f"http://127.0.0.1:{port}/v1/models/retrieval:predict"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
        command += ["--timeout", "30s", "-s", str(SCRIPT), url]
    else:
        words = f"127.0.0.1:{port}", connections, seconds
        command = module_command("benchmarks.serving.grpc_load", *words)
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT)


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


def measure_all(arguments, folder):
    """Rows of each index under every load."""
    for index_name in arguments.indexes:
        root = folder / index_name
        wholes = [
            export(
                folder / f"{index_name}-{seed}", index_name, arguments.candidates, seed
            )
            for seed in (0, 1)
        ]
        shutil.copytree(wholes[0], root / "1")
        server, ports = start_server(root)
        try:
            for protocol in arguments.protocols:
                load(protocol, ports[protocol], 8, 2).communicate()  # Warms up.
                for connections in arguments.connections:
                    for new in ([], wholes[::-1]):
                        found = measure(
                            server, ports[protocol], protocol, connections,
                            arguments.seconds, root, new,
                        )  # fmt: skip
                        yield {
                            "index": index_name,
                            "num_candidates": arguments.candidates,
                            "width": WIDTH,
                            **found,
                        }
        finally:
            server.terminate()
            server.wait()


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--indexes", nargs="+", default=["BruteForce", "ScaNN"])
    parser.add_argument("--protocols", nargs="+", default=["REST", "gRPC"])
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64])
    arguments = command_line.parse(
        parser,
        candidates=1_000,
        seconds=4,
        indexes=["BruteForce"],
        protocols=["REST", "gRPC"] if shutil.which("wrk") else ["gRPC"],
        connections=[8],
    )
    about, rows = provenance(PACKAGES), []
    # The column `versions` says how many of the model were swapped in.
    about["versions_of"] = about.pop("versions")
    with tempfile.TemporaryDirectory() as folder:
        for row in measure_all(arguments, pathlib.Path(folder)):
            csv_rows.show(row)
            rows.append({**row, **about})
    csv_rows.write(arguments.output, FIELDS, rows)


if __name__ == "__main__":
    main()
