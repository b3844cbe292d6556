"""Training steps on some replicas, in a process of its own, stepping when told to.

    python -m benchmarks.replicas.step_worker WAY REPLICAS

Way: "global", "global bfloat16", "local" or "tfrs". With TF_CONFIG in the environment
it is one of two workers with a replica each, and REPLICAS counts both. Reads "BATCH
STEPS" and prints a line of JSON each: wall and process CPU seconds a step. "BATCH
bytes" prints what crosses between replicas in a step; see `Counter` and
`received_by_sockets`.
"""

import os
import pathlib
import socket
import struct
import sys
import threading

import numpy as np
import tensorflow as tf

from benchmarks.common import costs, worker

WIDTH, IDS, DISTINCT_BATCHES = 64, 20_000, 4


class Counter:
    """Adds up what a replica gives to collectives while the loss is differentiated.

    The replica's calls of `all_gather` and `all_reduce` are traced as ever; beside
    each, the size of its argument is noted. Sums are of this replica, of one step.
    """

    def __init__(self):
        self._here = threading.local()  # Replicas of a process are threads.
        for kind in ("all_gather", "all_reduce"):
            self._wrap(kind)

    def _wrap(self, kind):
        owner = next(c for c in tf.distribute.ReplicaContext.__mro__ if kind in vars(c))
        original = getattr(owner, kind)

        def counting(context, *arguments, **options):
            value = arguments[0] if kind == "all_gather" else arguments[1]
            noted = getattr(self._here, "noted", None)
            if noted is not None:
                for part in tf.nest.flatten(value):
                    size = tf.size(part, tf.int64) * part.dtype.size
                    noted[kind].append(size)
            return original(context, *arguments, **options)

        setattr(owner, kind, counting)

    def start(self):
        self._here.noted = {"all_gather": [], "all_reduce": []}

    def stop(self):
        """Bytes given to each kind of collective, a dict of scalars."""
        noted, self._here.noted = self._here.noted, None
        zero = tf.constant(0, tf.int64)
        return {kind: tf.add_n([zero, *sizes]) for kind, sizes in noted.items()}


def received_by_sockets():
    """Bytes that this process's TCP connections have received (linux/tcp.h)."""
    received = 0
    for entry in pathlib.Path("/proc/self/fd").iterdir():
        try:
            if not os.readlink(entry).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as one:
                if one.family not in (socket.AF_INET, socket.AF_INET6):
                    continue
                about = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
                received += struct.unpack_from("Q", about, 128)[0]
        except OSError:  # Closed since, or not TCP.
            continue
    return received


def make_strategy(replicas):
    """GPUs if there are any, else logical processors; and what they are."""
    if "TF_CONFIG" in os.environ:
        return tf.distribute.MultiWorkerMirroredStrategy(), "loopback"
    gpus = tf.config.list_physical_devices("GPU")
    physical = gpus or tf.config.list_physical_devices("CPU")
    operations, kind = tf.distribute.ReductionToOneDevice(), "CPU"
    about = "logical processors"
    if gpus:
        kind = "GPU"
        about = tf.config.experimental.get_device_details(gpus[0])["device_name"]
        # NCCL takes no device twice.
        several = len(gpus) >= replicas
        operations = (
            tf.distribute.NcclAllReduce()
            if several
            else tf.distribute.HierarchicalCopyAllReduce()
        )
        about = f"{replicas if several else 1} x {about}"
    if len(physical) < replicas:
        part = tf.config.LogicalDeviceConfiguration(memory_limit=8192 if gpus else None)
        tf.config.set_logical_device_configuration(physical[0], [part] * replicas)
    if replicas == 1:
        return tf.distribute.OneDeviceStrategy(f"{kind}:0"), about
    places = [f"{kind}:{place}" for place in range(replicas)]
    return tf.distribute.MirroredStrategy(places, cross_device_ops=operations), about


def make_task(way):
    if way == "tfrs":
        import tensorflow_recommenders as tfrs

        return tfrs.tasks.Retrieval(remove_accidental_hits=True)
    from tfrs_negatives import layers, tasks

    return tasks.Retrieval(
        remove_accidental_hits=True,
        sampling_correction=layers.StreamingFrequency(2**16),
        global_negatives=way.startswith("global"),
        gather_dtype="bfloat16" if way == "global bfloat16" else None,
    )


class Trainer:
    """Two tables of ids, the task, and gradient descent."""

    def __init__(self, way, replicas):
        self.strategy, self.device = make_strategy(replicas)
        self._way, self._counter = way, Counter()
        with self.strategy.scope():
            self._tables = [tf.keras.layers.Embedding(IDS, WIDTH) for _ in range(2)]
            for table in self._tables:
                table.build([])
            self._task = make_task(way)
            self._optimizer = tf.keras.optimizers.SGD(0.01)
        self._iterators = {}

        @tf.function(reduce_retracing=True)
        def step(iterator):
            return self.strategy.run(self._step, args=[next(iterator)])

        self.step = step

    def iterator(self, batch):
        """Batches of ids as popular as in Zipf's law, without end."""
        if batch not in self._iterators:
            rng = np.random.default_rng(0)
            share = 1 / np.arange(10, IDS + 10)
            ids = rng.choice(IDS, (2, DISTINCT_BATCHES * batch), p=share / share.sum())
            rows = tf.data.Dataset.from_tensor_slices({"user": ids[0], "item": ids[1]})
            # Whole batches, but their size is not told: TensorFlow would compute what
            # TFRS makes of it once for all.
            rows = rows.batch(batch).repeat().prefetch(2)
            distributed = self.strategy.experimental_distribute_dataset(rows)
            self._iterators[batch] = iter(distributed)
        return self._iterators[batch]

    def _step(self, rows):
        self._counter.start()
        options = {"candidate_ids": rows["item"], "compute_metrics": False}
        if self._way != "tfrs":  # It has no such rule.
            options |= {"query_keys": rows["user"], "training": True}
        with tf.GradientTape() as tape:
            query, item = (
                table(rows[name])
                for table, name in zip(self._tables, ("user", "item"), strict=True)
            )
            loss = self._task(query, item, **options) / 1000.0
        weights = [table.embeddings for table in self._tables]
        gradients = tape.gradient(loss, weights)
        # What follows is the weights' own, with any kind of negatives.
        counted = self._counter.stop()
        self._optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return loss, counted

    def timed(self, batch, steps):
        iterator = self.iterator(batch)
        start = costs.now()
        for _ in range(steps):
            loss, _ = self.step(iterator)
            self._local(loss)[0].numpy()
        wall, cpu = costs.since(start)
        return {"wall": wall / steps, "cpu": cpu / steps}

    def crossing(self, batch, steps=5):
        iterator = self.iterator(batch)
        _, counted = self.step(iterator)
        before = received_by_sockets()
        for _ in range(steps):
            loss, _ = self.step(iterator)
            self._local(loss)[0].numpy()
        return {
            **{kind: int(self._local(size)[0]) for kind, size in counted.items()},
            "received": (received_by_sockets() - before) / steps,
        }

    def _local(self, value):
        return self.strategy.experimental_local_results(value)


def main(way, replicas):
    trainer = Trainer(way, int(replicas))
    worker.say(device=trainer.device)
    for line in sys.stdin:
        batch, asked = line.split()
        if asked == "bytes":
            answer = trainer.crossing(int(batch))
        else:
            answer = trainer.timed(int(batch), int(asked))
        worker.say(**answer)


if __name__ == "__main__":
    worker.keep_output_clean()
    main(*sys.argv[1:])
