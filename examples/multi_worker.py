"""The model of `two_tower.py` in several processes, on one machine or many.

Start the same program on every worker, each with its own TF_CONFIG:

    export TF_CONFIG='{"cluster": {"worker": ["host0:2222", "host1:2222"]},
                       "task": {"type": "worker", "index": 0}}'
    python examples/multi_worker.py --backup /shared/folder

A worker that dies makes the others fail within two minutes; start all of them again and
they go on from the end of the last whole epoch, with the estimator as it then was.
`--local 2` starts two workers on this machine, to try it. It needs the extra `demo`.
"""

import argparse
import json
import os
import subprocess
import sys

import tensorflow as tf
from two_tower import compiled_model, interactions, keras


def train(epochs, rows, backup):
    # First of all: it connects the workers.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    dataset, users, items, sampler = interactions(rows)
    with strategy.scope():
        model = compiled_model(users, items, sampler, global_negatives=True)
    # Every worker reads all rows, in the same order, and keeps its part of each batch.
    callbacks = [keras.callbacks.BackupAndRestore(backup)] if backup else []
    model.fit(dataset, epochs=epochs, verbose=2, callbacks=callbacks)
    print(f"Trained on {strategy.num_replicas_in_sync} replicas", flush=True)


def start_local_workers(number, port, arguments):
    """Runs this program once for each worker; returns whether all did well."""
    addresses = [f"localhost:{port + index}" for index in range(number)]
    workers = []
    for index in range(number):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": addresses}, "task": task})
        command = [sys.executable, __file__, *arguments]
        workers.append(
            subprocess.Popen(command, env={**os.environ, "TF_CONFIG": config})
        )
    return all([worker.wait() == 0 for worker in workers])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--local", type=int, metavar="WORKERS")
    parser.add_argument("--port", type=int, default=22220, help="first of --local")
    parser.add_argument("--backup", help="folder that all workers reach")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rows", type=int)
    arguments = parser.parse_args()
    if arguments.local:
        passed_on = ["--epochs", str(arguments.epochs)]
        passed_on += ["--rows", str(arguments.rows)] if arguments.rows else []
        passed_on += ["--backup", arguments.backup] if arguments.backup else []
        sys.exit(not start_local_workers(arguments.local, arguments.port, passed_on))
    train(arguments.epochs, arguments.rows, arguments.backup)
