"""The model of `two_tower.py` on several devices of one machine.

`python examples/mirrored.py` takes all GPUs; without any, or with `--devices 2`, it
splits the processor. Every device is a replica with a part of each batch; with
`global_negatives=True` all candidates of the batch are negatives of every row, so that
what is learned does not depend on how many there are. It needs the extra `demo`.
"""

import argparse

import tensorflow as tf
from two_tower import compiled_model, interactions


def make_strategy(devices):
    """All GPUs, or as many logical processors."""
    # Keras 3 needs these operations between devices; Keras 2 takes the default too.
    if tf.config.list_physical_devices("GPU") and not devices:
        operations = tf.distribute.HierarchicalCopyAllReduce()
        return tf.distribute.MirroredStrategy(cross_device_ops=operations)
    processor = tf.config.list_physical_devices("CPU")[0]
    logical = [tf.config.LogicalDeviceConfiguration()] * (devices or 2)
    tf.config.set_logical_device_configuration(processor, logical)
    return tf.distribute.MirroredStrategy(
        [f"CPU:{i}" for i in range(len(logical))],
        cross_device_ops=tf.distribute.ReductionToOneDevice(),
    )


def main(devices, epochs, rows):
    strategy = make_strategy(devices)
    dataset, users, items, sampler = interactions(rows)
    # What holds variables is made in the strategy's scope.
    with strategy.scope():
        model = compiled_model(users, items, sampler, global_negatives=True)
    # The batch is cut into equal parts, one a replica, and so are the negatives that
    # the sampler added to it.
    model.fit(dataset, epochs=epochs, verbose=2)
    print(f"Trained on {strategy.num_replicas_in_sync} replicas")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rows", type=int)
    arguments = parser.parse_args()
    main(arguments.devices, arguments.epochs, arguments.rows)
