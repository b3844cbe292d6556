"""How far estimates of log q are from the truth, on Zipf streams that switch.

    python -m benchmarks.log_q.accuracy

Every estimator sees the same batches with repeats, of as many examples before as
after all ids are permuted. The error of an estimate is the q-weighted mean of
|log q_hat - log q - shift|, in nats, where q is the present truth and the shift,
their q-weighted mean difference (a constant cancels in a softmax), is taken out.
It covers the ids that have occurred since the start: what an estimator says of
others is a matter of its prior. Beyond 100,000 ids the mean is over 200,000 draws.

Streams that the CSV holds already are not run again. Ends with the checks.
"""

import itertools
import pathlib
import time

import numpy as np

from benchmarks.common import command_line, csv_rows
from benchmarks.common.markdown import verdict
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.log_q.errors import averages, error, evaluation_ids
from benchmarks.log_q.estimators import build_all
from benchmarks.log_q.streams import ZipfStream

ROWS = pathlib.Path(__file__).with_name("accuracy.csv")
PACKAGES = "tensorflow", "tensorflow-recommenders", "tf-keras", "keras", "numpy"
FIELDS = (
    "num_ids batch seed switched step examples subject error_nats seen_q state_mib"
).split() + WHERE
# Buckets of all hashes together: 4 an id, and 190 MiB for 10 million ids.
BUCKETS = {2_000: 8_000, 100_000: 400_000, 10_000_000: 12_500_000}
EXAMPLES = {2_000: 6e6, 100_000: 4e6, 10_000_000: 6e6}
SEEDS = {2_000: 3, 100_000: 3, 10_000_000: 1}
# When errors are taken, as shares of the steps between two switches.
REPORTS = (1 / 64, 1 / 16, 1 / 4, 1 / 2, 1)
MIN_STEPS = 500
CHUNK = 2**18  # Examples drawn at once.
# Those to be at most 0.07 nats off in the end, at 2,000 ids and B = 1,024.
STEADY = ("count, default size", "count, dense", "count, dense, published start")


def run(num_ids, batch, seed, examples):
    """Errors of all estimators on one stream, as a list of CSV rows."""
    steps = max(int(examples) // batch, MIN_STEPS)
    # As many examples as the average id needs for the 1/a = 100 occurrences that
    # the moving average keeps, or what leaves time to forget.
    horizon = min(100 * num_ids, steps * batch / 4)
    subjects = build_all(num_ids, batch, seed, BUCKETS[num_ids], horizon)
    stream = ZipfStream(num_ids, seed)
    rows, now = [], 0
    for switched, share in itertools.product((0, 1), REPORTS):
        if switched and share == REPORTS[0]:
            stream.switch()
        stop = switched * steps + int(share * steps)
        while now < stop:
            count = min(stop - now, max(CHUNK // batch, 1))
            batches = stream.ids((count, batch))
            for subject in subjects.values():
                subject.learn(batches)
            now += count
        ids, weights = evaluation_ids(stream)
        log_q = np.log(stream.q[ids])
        for name, subject in subjects.items():
            rows.append(
                {
                    "num_ids": num_ids,
                    "batch": batch,
                    "seed": seed,
                    "switched": switched,
                    "step": now,
                    "examples": now * batch,
                    "subject": name,
                    "error_nats": round(error(subject.log_q(ids), log_q, weights), 5),
                    "seen_q": round(float(stream.q[stream.seen].sum()), 4),
                    "state_mib": round(subject.state_bytes / 2**20, 3),
                }
            )
    return rows


def check(rows):
    """Prints what the benchmark has to show, with numbers."""
    table = averages(rows)
    steady = [key for key in table if key[:3] == (2_000, 1024, 0)]
    if steady:
        for subject in STEADY:
            found = table[steady[-1]][subject]
            verdict(found <= 0.07, f"2,000 ids, B=1024, {subject}: {found:.4f} <= 0.07")
    for ours in ("count", "count, published start"):
        for other in ("published", "published, per draw", "published, each repeat"):
            margins = {key: e[other] - e[ours] for key, e in table.items()}
            worse = {key: margin for key, margin in margins.items() if margin < 0}
            text = f"{ours} against {other}: worse at {len(worse)} of {len(margins)}"
            verdict(
                not worse, f"{text} points, least margin {min(margins.values()):.4f}"
            )
            for key in worse:
                print(
                    "       ids {:,} B={} switched={} step={}: ".format(*key)
                    + f"{table[key][ours]:.4f} against {table[key][other]:.4f}"
                )


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument("--num-ids", type=int, nargs="+", default=list(BUCKETS))
    parser.add_argument("--batch", type=int, nargs="+", default=[1024, 4096, 16384])
    parser.add_argument("--seeds", type=int, help="seeds a stream")
    parser.add_argument("--examples", type=float, help="between two switches")
    arguments = command_line.parse(
        parser, num_ids=[2_000], batch=[1024], seeds=1, examples=20_000
    )

    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    about, rows = provenance(PACKAGES), csv_rows.read(arguments.output)
    done = {tuple(int(row[f]) for f in ("num_ids", "batch", "seed")) for row in rows}
    streams = [
        (num_ids, batch, seed)
        for seed in range(arguments.seeds or max(SEEDS.values()))
        for num_ids, batch in itertools.product(arguments.num_ids, arguments.batch)
        if arguments.seeds or seed < SEEDS[num_ids]
    ]
    for num_ids, batch, seed in streams:
        if (num_ids, batch, seed) in done:
            continue
        start = time.perf_counter()
        examples = arguments.examples or EXAMPLES[num_ids]
        found = run(num_ids, batch, seed, examples)
        rows += [{**row, **about} for row in found]
        csv_rows.write(arguments.output, FIELDS, rows)
        seconds = time.perf_counter() - start
        print(f"{num_ids:,} ids, B={batch}, seed {seed}: {seconds:.0f} s")
        last = {r["subject"]: r["error_nats"] for r in found if not r["switched"]}
        print("  " + "; ".join(f"{s} {e:.3f}" for s, e in last.items()), flush=True)
    check(rows)


if __name__ == "__main__":
    main()
