"""Whether the input pipeline with negatives keeps up with the training step.

    python -m benchmarks.samplers.throughput

The pipeline batches rows of (user, item) and attaches K shared uniform negatives and
M mined ones a row, from a corpus of a million items; it is timed alone, with nothing
else to do. The step trains two embedding towers with the corrected loss over B + K
columns and Adam, on one batch held in memory. The two, and the pipeline without
negatives, take turns, so that what else the machine does falls on all alike; the ratio
is the median of what neighbouring turns give. Below 1 the pipeline keeps up, even if
nothing of it overlaps with the step.
"""

import pathlib

import numpy as np
import tensorflow as tf

from benchmarks.common import command_line, csv_rows
from benchmarks.common.embedding_step import embedding_step
from benchmarks.common.markdown import verdict
from benchmarks.common.pipelines import without_prefetch
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.turns import alternate, medians, ratios
from tfrs_negatives import layers, tasks
from tfrs_negatives.samplers import Mined, Uniform

ROWS = pathlib.Path(__file__).with_name("throughput.csv")
PACKAGES = "tensorflow", "tensorflow-recommenders", "tf-keras", "keras", "numpy"
FIELDS = (
    "what batch num_shared num_mined num_items width turns wall_ms cpu_ms ratio_to_step"
).split() + WHERE
NUM_USERS, NUM_ROWS, TABLE_WIDTH = 100_000, 2_000_000, 64


def pipelines(arguments):
    """Datasets of batches, with negatives and without, and the uniform sampler."""
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
    correction = layers.MixedLogQ([layers.StreamingFrequency(), uniform.log_q])
    task = tasks.Retrieval(
        temperature=0.1, remove_accidental_hits=True, sampling_correction=correction
    )
    return embedding_step(task, [NUM_USERS, arguments.items], arguments.width)


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--shared", type=int, default=4096)
    parser.add_argument("--mined", type=int, default=8)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=90)
    arguments = command_line.parse(
        parser, batch=64, shared=64, items=1000, width=8, seconds=0.1
    )
    full, plain, uniform = pipelines(arguments)
    full, plain = iter(without_prefetch(full)), iter(without_prefetch(plain))
    batch = next(full)
    ids = tf.concat([batch["item"], batch["negatives"]], axis=0)
    step = training_step(arguments, uniform)
    functions = {
        "pipeline with negatives": lambda: next(full),
        "pipeline without negatives": lambda: next(plain),
        "training step": lambda: step(batch["user"], ids, ids).numpy(),
    }
    # A turn takes many more elements than run ahead of it during the others.
    repeats = dict(zip(functions, (50, 50, 4), strict=True))
    times = alternate(functions, arguments.seconds, repeats=repeats)
    rows, about = [], provenance(PACKAGES)
    for name, taken in times.items():
        row = {
            "what": name,
            "batch": arguments.batch,
            "num_shared": arguments.shared,
            "num_mined": arguments.mined,
            "num_items": arguments.items,
            "width": arguments.width,
            **medians(taken),
            "ratio_to_step": round(ratios(taken, times["training step"])[0], 4),
        }
        csv_rows.show(row)
        rows.append({**row, **about})
    csv_rows.write(arguments.output, FIELDS, rows)
    ratio = rows[0]["ratio_to_step"]
    verdict(ratio < 1, f"pipeline with negatives / training step: {ratio:.3f} < 1")


if __name__ == "__main__":
    main()
