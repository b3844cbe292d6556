"""The model of `two_tower.py`, its rows prepared by other machines: tf.data service.

Start a dispatcher and as many workers as reading needs, each in a process of its own:

    server = tf.data.experimental.service.DispatchServer(
        tf.data.experimental.service.DispatcherConfig(port=5000)
    )
    server.join()

    server = tf.data.experimental.service.WorkerServer(
        tf.data.experimental.service.WorkerConfig(dispatcher_address="HOST:5000")
    )
    server.join()

and then `python examples/data_service.py --service grpc://HOST:5000`. Without
`--service` a dispatcher and two workers run in this process. It needs the extra `demo`.
"""

import argparse

import numpy as np
import tensorflow as tf
from two_tower import compiled_model

import tfrs_negatives as tn

service = tf.data.experimental.service
ROWS_OF_A_SPLIT = 1000


def start_local_service(workers):
    """Servers, which stop when they are no longer referred to; the first dispatches."""
    dispatcher = service.DispatchServer()
    address = dispatcher.target.removeprefix("grpc://")
    config = service.WorkerConfig(dispatcher_address=address)
    return [dispatcher, *[service.WorkerServer(config) for _ in range(workers)]]


def splits(columns):
    """Rows of a table, whose source has an element for so many rows.

    Workers ask the dispatcher for the source's elements one at a time, which takes long
    if these are rows. Of files the source is their names.
    """
    columns = {name: tf.constant(values) for name, values in columns.items()}
    num_rows = len(next(iter(columns.values())))

    def rows_from(start):
        split = {n: c[start : start + ROWS_OF_A_SPLIT] for n, c in columns.items()}
        return tf.data.Dataset.from_tensor_slices(split)

    return tf.data.Dataset.range(0, num_rows, ROWS_OF_A_SPLIT).flat_map(rows_from)


def served(rows, batch, target):
    """Batches of these rows, shuffled and batched by the service's workers.

    Every row comes once an epoch: a split goes to the worker that asks first.
    """
    # Without a seed, here or by `tf.random.set_seed`: with one, a worker would take
    # each epoch in the same order.
    rows = rows.shuffle(10**5).batch(batch)
    policy = service.ShardingPolicy.DYNAMIC
    rows = rows.apply(service.distribute(processing_mode=policy, service=target))
    # The last batch of each worker is short.
    return rows.rebatch(batch)


def main(target, epochs, num_rows):
    servers = [] if target else start_local_service(workers=2)
    target = target or servers[0].target
    table = tn.data.interactions()  # From the package index.
    users, items = np.unique(table.user), np.unique(table.item)
    rows = splits({"user": table.user[:num_rows], "item": table.item[:num_rows]})
    sampler = tn.samplers.Uniform(items)
    # Negatives are drawn here: workers have the same seed, and so would draw the same.
    batches = sampler.attach(served(rows, 1024, target), 512).prefetch(2)
    model = compiled_model(users, items, sampler)
    model.fit(batches, epochs=epochs, verbose=2)
    print(f"Trained on rows from {target}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", metavar="ADDRESS")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rows", type=int)
    arguments = parser.parse_args()
    main(arguments.service, arguments.epochs, arguments.rows)
