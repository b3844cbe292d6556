"""Reproduces the simulation of Yi et al. (RecSys 2019, section on simulations).

    python -m benchmarks.log_q.simulation

1,000 items, batches of 128 without repeats, item i drawn in proportion to i^2 and
from step 10,000 in the opposite order; a = 0.01, all gaps 100 at first. The error
is sum |p_hat - p| / (2B). Both readings of p are given: B q, which reproduces the
paper, and the measured share of batches that hold the item, which is what is
estimated: in batches without repeats frequent items come less often than B q times.
"""

import pathlib

import numpy as np

from benchmarks.common import command_line, csv_rows
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.log_q.estimators import Streaming
from benchmarks.log_q.streams import BatchesWithoutRepeats

ROWS = pathlib.Path(__file__).with_name("simulation.csv")
PACKAGES = "tensorflow", "tensorflow-recommenders", "tf-keras", "keras", "numpy"
FIELDS = [
    "num_hashes",
    "num_buckets",
    "seed",
    "step",
    "error",
    "error_to_share",
    *WHERE,
]
NUM_IDS, BATCH, SWITCH, STEPS = 1000, 128, 10_000, 20_000
REPORT_EVERY = 1000
# m and H; the last is a bucket an id, without collisions.
SIZES = [(1, 5000), (2, 2500), (4, 1250), (1, NUM_IDS)]
# The errors to be met, found with another implementation of the same simulation.
REPORTS = (3000, 10_000, 11_000, 20_000)
EXPECTED = {
    (1, 5000): (0.128, 0.113, 0.412, 0.141),
    (2, 2500): (0.079, 0.065, 0.374, 0.082),
    (4, 1250): (0.066, 0.052, 0.343, 0.060),
    (1, NUM_IDS): (0.058, 0.038, 0.394, 0.068),
}


def run(seed, sizes):
    """Learning curves of all sizes on one stream, as a list of CSV rows."""
    subjects = {
        (m, buckets): Streaming(
            NUM_IDS,
            seed,
            num_buckets=buckets,
            num_hashes=m,
            learning_rate=0.01,
            mode="hit",
            initial_gap=100.0,
            dense=buckets == NUM_IDS,
        )
        for m, buckets in sizes
    }
    stream = BatchesWithoutRepeats(NUM_IDS, BATCH, seed)
    rows, ids = [], np.arange(NUM_IDS)
    p = None
    for step in range(REPORT_EVERY, STEPS + 1, REPORT_EVERY):
        if step - REPORT_EVERY == SWITCH:
            stream.switch()
            p = None
        if p is None:
            p = stream.inclusion()
        batches = stream.ids(REPORT_EVERY)
        for (m, buckets), subject in subjects.items():
            subject.learn(batches)
            p_hat = np.exp(subject.log_q(ids))
            rows.append(
                {
                    "num_hashes": m,
                    "num_buckets": buckets,
                    "seed": seed,
                    "step": step,
                    "error_to_share": distance(p_hat, p),
                    "error": distance(p_hat, stream.proportional()),
                }
            )
    return rows


def distance(p_hat, p):
    return round(float(np.abs(p_hat - p).sum() / (2 * BATCH)), 5)


def show(rows):
    """Prints mean and deviation over seeds, and how far off the expected they are."""
    near = []
    for size, expected in EXPECTED.items():
        print("m={}, H={}".format(*size))
        for step, figure in zip(REPORTS, expected, strict=True):
            errors = [
                float(row["error"])
                for row in rows
                if (int(row["num_hashes"]), int(row["num_buckets"])) == size
                and int(row["step"]) == step
            ]
            mean, deviation = np.mean(errors), np.std(errors, ddof=1)
            near.append(abs(mean - figure) <= 2 * deviation)
            print(
                f"  step {step:,}: {mean:.3f} +- {deviation:.3f}, expected {figure:.3f}"
            )
    print(f"{sum(near)} of {len(near)} within two deviations of one seed")


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument("--seeds", type=int, default=10, help="two at least")
    arguments = command_line.parse(parser, seeds=2)

    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    about, rows = provenance(PACKAGES), csv_rows.read(arguments.output)
    done = {int(row["seed"]) for row in rows}
    for seed in range(arguments.seeds):
        if seed in done:
            continue
        rows += [{**row, **about} for row in run(seed, SIZES)]
        csv_rows.write(arguments.output, FIELDS, rows)
        print(f"seed {seed} done", flush=True)
    show(rows)


if __name__ == "__main__":
    main()
