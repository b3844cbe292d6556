"""The model of `two_tower.py` with its tables on parameter servers (Keras 2 only).

For embedding tables that no single machine holds. Workers train each at its own pace on
its own batches, so negatives are those of the worker's batch (`global_negatives` is
refused), and updates of the frequency estimator by two workers at once may lose one of
them: its error grows a little with the number of workers.

Start a `tf.distribute.Server` on every worker and parameter server, and this program on
the coordinator, all with their TF_CONFIG. `--local` starts two workers and one server
inside this process instead, to try it. It needs the extra `demo`.
"""

import argparse
import os
import socket

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # Keras 3 has no such strategy.

import tensorflow as tf
from two_tower import compiled_model, interactions, keras


def local_cluster(workers=2, servers=1):
    """Servers in this process; returns how to find them."""
    jobs = {"worker": workers, "ps": servers}
    cluster = tf.train.ClusterSpec(
        {job: [f"localhost:{free_port()}" for _ in range(n)] for job, n in jobs.items()}
    )
    # A worker waits for the others' variables: one thread each, and one to spare.
    config = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=workers + 1)
    for job, number in jobs.items():
        for index in range(number):
            tf.distribute.Server(cluster, job, index, config=config, protocol="grpc")
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        cluster, rpc_layer="grpc"
    )


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


def main(epochs, rows, local):
    resolver = (
        local_cluster()
        if local
        else tf.distribute.cluster_resolver.TFConfigClusterResolver()
    )
    strategy = tf.distribute.ParameterServerStrategy(resolver)
    _, users, items, sampler = interactions(rows)
    with strategy.scope():
        model = compiled_model(users, items, sampler)

    def batches(context):
        """Each worker draws rows and negatives of its own."""
        dataset, *_ = interactions(rows, context)
        return dataset.repeat()

    model.fit(
        keras.utils.experimental.DatasetCreator(batches),
        epochs=epochs,
        steps_per_epoch=20,
        verbose=2,
    )
    print(f"Trained with {len(resolver.cluster_spec().job_tasks('worker'))} workers")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rows", type=int)
    arguments = parser.parse_args()
    main(arguments.epochs, arguments.rows, arguments.local)
