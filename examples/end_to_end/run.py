"""From raw events to a served model, one step after the other.

    python examples/end_to_end/run.py --rows 1000000

Generates events, splits them by time, counts and shuffles the training rows, trains two
towers in two processes, embeds users and items, measures recall over all items, and
writes a SavedModel that `tfrs-negatives serve` serves. Each step is a process; its
costs are a line of FOLDER/costs.csv. What is done already is not done again, so a run
that was ended goes on. It needs the extras `beam`, `demo` and `scann`.

`--config` says where: `local.json` is one machine. `cluster.json` shows what changes on
a cluster: the folder, Beam's runner, and "training_workers": 0, which leaves it to the
cluster to start `train.py` on each of its workers; run again when they have ended.
"""

import argparse
import csv
import json
import os
import pathlib
import subprocess
import sys
import time

import fsspec

HERE = pathlib.Path(__file__).parent
FIELDS = ["step", "seconds", "cpu_seconds", "peak_mib"]


def steps(config):
    """What is done in order: names, commands, and what each writes last."""
    folder = config["folder"]

    def python(script, *words):
        return [sys.executable, HERE / script, folder, *words]

    def pipeline(step, output, *words):
        command = [sys.executable, "-m", "tfrs_negatives.cli", "pipeline", step]
        command += ["--output", f"{folder}/{output}", *words]
        if config["runner"] == "local":
            command += ["--workers", config["pipeline_workers"]]
        command += ["--runner", config["runner"]]
        command += ["--runner-options", *config["runner_options"]]
        return f"{step}: {output}", command, f"{folder}/{output}"

    events = ["--user", "customer", "--item", "sku", "--time", "at"]
    training = ["--input", f"{folder}/split/training"]
    yield (
        "events",
        python("events.py", "--rows", config["rows"]),
        f"{folder}/sku.parquet",
    )
    yield pipeline("split", "split", "--input", f"{folder}/events", *events)
    for role in ("user", "item"):
        yield pipeline("count", f"{role}_counts", *training, "--role", role)
    # Each training worker reads files of its own: at least as many as workers.
    shuffled = [*training, "--order", "shuffled", "--shards", config["shards"]]
    yield pipeline("order", "rows", *shuffled)
    words = ["--training", json.dumps(config["training"])]
    yield "train", python("train.py", *words), f"{folder}/item_tower/saved_model.pb"
    for role, column in (("user", "customer"), ("item", "sku")):
        table = ["--input", f"{folder}/{column}.parquet", "--id", column]
        model = ["--model", f"{folder}/{role}_tower", "--feature", f"{role}={column}"]
        yield pipeline("embed", f"{role}_vectors", *table, *model)
    queries = ["--queries", f"{folder}/user_vectors"]
    queries += ["--items", f"{folder}/item_vectors"]
    held_out = ["--input", f"{folder}/split/held_out"]
    held_out += ["--exclude", f"{folder}/split/training"]
    yield pipeline("recall", "recall", *queries, *held_out)
    yield "publish", python("publish.py"), f"{folder}/model/saved_model.pb"


def started(command, workers, port):
    """The processes of a step: one, or one for each training worker."""
    if workers is None:
        return [subprocess.Popen(command)]
    addresses = [f"localhost:{port + index}" for index in range(workers)]
    processes = []
    for index in range(workers):
        task = {"type": "worker", "index": index}
        told = json.dumps({"cluster": {"worker": addresses}, "task": task})
        environment = {**os.environ, "TF_CONFIG": told}
        processes.append(subprocess.Popen(command, env=environment))
    return processes


def run(name, command, workers=None, port=0):
    """Runs a step; returns its costs, and ends where it fails."""
    start = time.perf_counter()
    used = [
        os.wait4(process.pid, 0)[1:]
        for process in started([str(word) for word in command], workers, port)
    ]
    if any(status for status, _ in used):
        sys.exit(f"{name} failed; run again to go on from there")
    return {
        "step": name,
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(sum(u.ru_utime + u.ru_stime for _, u in used), 1),
        "peak_mib": round(max(u.ru_maxrss for _, u in used) / 1024),
    }


def main(config, port):
    files, folder = fsspec.core.url_to_fs(config["folder"])
    files.makedirs(folder, exist_ok=True)
    for name, command, written in steps(config):
        if files.exists(files._strip_protocol(written)):
            print(f"{name}: is done", flush=True)
            continue
        print(f"{name} ...", flush=True)
        workers = config["training_workers"] if name == "train" else None
        if workers == 0:
            words = " ".join(map(str, command[1:]))
            sys.exit(f"start on each worker, with its TF_CONFIG: python {words}")
        cost = run(name, command, workers, port)
        print("  " + ", ".join(f"{n} {v}" for n, v in cost.items() if n != "step"))
        _append(f"{config['folder']}/costs.csv", files, cost)
    with fsspec.open(f"{config['folder']}/recall/recall.json") as file:
        print(json.dumps(json.load(file), indent=2))
    print(f"Serve it: tfrs-negatives serve {config['folder']}/model")


def _append(path, files, cost):
    """Adds a line to the costs; remote files cannot be added to, so all is written."""
    rows = []
    if files.exists(files._strip_protocol(path)):
        with fsspec.open(path, "r", newline="") as file:
            rows = list(csv.DictReader(file))
    with fsspec.open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        writer.writerows([*rows, cost])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=pathlib.Path, default=HERE / "local.json")
    parser.add_argument("--rows", type=int, default=1_000_000, help="to generate")
    parser.add_argument("--folder", help="instead of the configuration's")
    parser.add_argument("--port", type=int, default=22330, help="first of training")
    arguments = parser.parse_args()
    read = json.loads(arguments.config.read_text()) | {"rows": arguments.rows}
    if arguments.folder:
        read["folder"] = arguments.folder
    main(read, arguments.port)
