"""Whether the input pipeline with negatives keeps up with the training step.

    python benchmarks/samplers/throughput.py --output benchmarks/samplers/throughput.csv

The pipeline batches rows of (user, item) and attaches K shared uniform negatives and
M mined ones a row, from a corpus of a million items; it is timed alone, with nothing
else to do. The step trains two embedding towers with the corrected loss over B + K
columns and Adam, on one batch held in memory. The two, and the pipeline without
negatives, take turns, so that what else the machine does falls on all alike; the ratio
is the median of what neighbouring turns give. Below 1 the pipeline keeps up, even if
nothing of it overlaps with the step.
"""

import argparse
import os
import pathlib
import sys
import time

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE.parent))

import csv_rows  # noqa: E402
from provenance import provenance  # noqa: E402

PACKAGES = "tensorflow", "tensorflow-recommenders", "tf-keras", "keras", "numpy"
FIELDS = (
    "what batch num_shared num_mined num_items width turns wall_ms cpu_ms "
    "ratio_to_step device versions commit"
).split()
NUM_USERS, NUM_ROWS, TABLE_WIDTH = 100_000, 2_000_000, 64


def pipelines(arguments):
    """Datasets of batches, with negatives and without, and the uniform sampler."""
    import tensorflow as tf

    from tfrs_negatives.samplers import Mined, Uniform

    rng = np.random.default_rng(0)
    items = np.arange(arguments.items)
    columns = {
        "user": rng.integers(NUM_USERS, size=NUM_ROWS),
        "item": rng.integers(arguments.items, size=NUM_ROWS),
    }
    table = rng.integers(arguments.items, size=(NUM_USERS, TABLE_WIDTH), dtype=np.int32)
    uniform, mined = Uniform(items), Mined(items, table, "user", range_min=8)
    plain = tf.data.Dataset.from_tensor_slices(columns).repeat()
    plain = plain.batch(arguments.batch, drop_remainder=True)
    full = uniform.attach(plain, arguments.shared)
    full = mined.attach(full, arguments.mined, per_row=True, name="mined")
    return full, plain, uniform


def training_step(arguments, uniform):
    """Two embedding towers, the corrected loss over B + K columns, Adam."""
    import tensorflow as tf

    from tfrs_negatives import layers, tasks

    towers = [
        tf.keras.layers.Embedding(size, arguments.width, name=name)
        for name, size in (("users", NUM_USERS), ("items", arguments.items))
    ]
    task = tasks.Retrieval(
        temperature=0.1,
        remove_accidental_hits=True,
        sampling_correction=layers.MixedLogQ(
            [layers.StreamingFrequency(), uniform.log_q]
        ),
    )
    optimizer = tf.keras.optimizers.Adam(0.01)
    variables = []
    for tower in towers:
        tower.build(None)
        variables += tower.trainable_variables

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)] * 3)
    def step(users, positives, negatives):
        ids = tf.concat([positives, negatives], axis=0)
        with tf.GradientTape() as tape:
            loss = task(
                towers[0](users),
                towers[1](ids),
                candidate_ids=ids,
                query_keys=users,
                training=True,
            )
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    return step


def alternate(functions, seconds):
    """(wall, CPU) seconds a call [turns, 2] of each, taking turns.

    Args:
      functions: A function and its calls a turn, by name.
      seconds: How long to go on.
    """
    times = {name: [] for name in functions}
    for function, repeats in functions.values():
        for _ in range(repeats):
            function()
    end, turns = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or turns < 5:
        turns += 1
        for name, (function, repeats) in functions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(repeats):
                function()
            taken = time.perf_counter() - wall, time.process_time() - cpu
            times[name].append(np.array(taken) / repeats)
    return {name: np.array(taken) for name, taken in times.items()}


def _one_by_one(dataset):
    """The dataset without the prefetching that tf.data adds by itself."""
    import tensorflow as tf

    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    return dataset.with_options(options)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "throughput.csv")
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--shared", type=int, default=4096)
    parser.add_argument("--mined", type=int, default=8)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=90)
    arguments = parser.parse_args()

    full, plain, uniform = pipelines(arguments)
    # A turn takes many more elements than run ahead of it during the others.
    full, plain = iter(_one_by_one(full)), iter(_one_by_one(plain))
    batch = next(full)
    step = training_step(arguments, uniform)
    names = {
        "pipeline with negatives": (lambda: next(full), 50),
        "pipeline without negatives": (lambda: next(plain), 50),
        "training step": (
            lambda: step(batch["user"], batch["item"], batch["negatives"]).numpy(),
            4,
        ),
    }
    times = alternate(names, arguments.seconds)
    rows, about = [], provenance(PACKAGES)
    for name, taken in times.items():
        wall, cpu = 1e3 * np.median(taken, axis=0)
        ratio = np.median(taken[:, 0] / times["training step"][:, 0])
        rows.append(
            {
                "what": name,
                "batch": arguments.batch,
                "num_shared": arguments.shared,
                "num_mined": arguments.mined,
                "num_items": arguments.items,
                "width": arguments.width,
                "turns": len(taken),
                "wall_ms": round(wall, 2),
                "cpu_ms": round(cpu, 2),
                "ratio_to_step": round(ratio, 4),
                **about,
            }
        )
        print("  ".join(f"{k} {v}" for k, v in rows[-1].items()), flush=True)
    csv_rows.write(arguments.output, FIELDS, rows)
    ratio = rows[0]["ratio_to_step"]
    verdict = "PASS" if ratio < 1 else "FAIL"
    print(f"{verdict} pipeline with negatives / training step: {ratio:.3f} < 1")


if __name__ == "__main__":
    main()
