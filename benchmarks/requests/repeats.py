"""When the loss of distinct embeddings pays: by how much rows and columns repeat.

    python -m benchmarks.requests.repeats

Embeddings are rows of two tables, and the caller has ids. Value and gradients in both
embeddings, temperature .1, log q given, accidental hits and the user's other items
dropped:

* distinct: `layers.OncePerKey.distinct` of both tables, `query_rows`, `candidate_rows`;
* all rows: the same task, an embedding looked up for each row.

A batch has a share of distinct users, each with as many rows as another, one after
the other; and a share of distinct items, each once, and the other rows drawn of them by
Zipf's law. The two take turns on several such batches; the factor is the median over
turns. Costs of a distinct pair and of a row are fitted to all factors, for
`audit.distinct_loss`, and it is told how far its predictions are off.
"""

import itertools
import pathlib

import numpy as np
import tensorflow as tf

from benchmarks.common import command_line, csv_rows
from benchmarks.common.provenance import FIELDS as WHERE
from benchmarks.common.provenance import provenance
from benchmarks.common.turns import alternate, medians, ratios
from tfrs_negatives.audit.distinct_loss import predicted_factor
from tfrs_negatives.layers import OncePerKey
from tfrs_negatives.tasks import Retrieval

ROWS = pathlib.Path(__file__).with_name("repeats.csv")
PACKAGES = "tensorflow", "tf-keras", "keras", "numpy"
WIDTH, TABLE = 64, 100_000
SIZES = 1024, 2048, 4096, 8192
USER_SHARES, ITEM_SHARES = (1, 2, 4, 20), (1, 2, 4, 10)
BATCHES = 4
PREDICTORS = "batch", "queries", "items"
FIELDS = (
    "batch width queries items share turns distinct_ms all_rows_ms distinct_cpu_ms "
    "all_rows_cpu_ms factor factor_cpu"
).split() + WHERE


def draw(size, queries, items, rng):
    """Users and items of the rows of a batch, with exactly so many distinct of each."""
    users = rng.choice(TABLE, queries, replace=False)[np.arange(size) * queries // size]
    chances = 1 / np.arange(1, items + 1)
    drawn = rng.choice(items, size - items, p=chances / chances.sum())
    places = rng.permutation(np.concatenate([np.arange(items), drawn]))
    return users, rng.choice(TABLE, items, replace=False)[places]


def make_steps():
    """The steps by name: functions of users and items to value and gradients."""
    tables = [tf.keras.layers.Embedding(TABLE, WIDTH) for _ in range(2)]
    rng = np.random.default_rng(0)
    for table in tables:
        table.build([None])
        table.set_weights([rng.normal(size=[TABLE, WIDTH]).astype(np.float32) / 8])
    variables = [table.trainable_variables[0] for table in tables]
    users, items = map(OncePerKey, tables)
    log_q = tf.constant(rng.normal(-9, 1, TABLE), tf.float32)
    task = Retrieval(temperature=0.1, remove_accidental_hits=True)

    def distinct(user, item):
        queries, query_rows = users.distinct(user, user)
        candidates, candidate_rows = items.distinct(item, item)
        maps = {"query_rows": query_rows, "candidate_rows": candidate_rows}
        return queries, candidates, maps

    def all_rows(user, item):
        return tables[0](user), tables[1](item), {}

    def step(embed):
        # Sizes unknown while tracing, as in training.
        @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)] * 2)
        def traced(user, item):
            with tf.GradientTape() as tape:
                queries, candidates, maps = embed(user, item)
                value = task(
                    queries,
                    candidates,
                    candidate_ids=item,
                    query_keys=user,
                    candidate_log_q=tf.gather(log_q, item),
                    compute_metrics=False,
                    **maps,
                )
            return value, tape.gradient(value, variables)

        return traced

    return {"distinct": step(distinct), "all rows": step(all_rows)}


def check_agreement(steps, batch):
    """Raises unless both ways find the same value and gradients."""
    found, expected = (steps[name](*batch) for name in ("distinct", "all rows"))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    for other, one in zip(found[1], expected[1], strict=True):
        other, one = (tf.convert_to_tensor(x).numpy() for x in (other, one))
        np.testing.assert_allclose(other, one, atol=1e-5 * np.abs(one).max())


def measure(steps, size, queries, items, seconds):
    """A row of the table."""
    rng = np.random.default_rng([size, queries, items])
    batches = [
        tuple(tf.constant(ids, tf.int64) for ids in draw(size, queries, items, rng))
        for _ in range(BATCHES)
    ]
    check_agreement(steps, batches[0])
    runs = {
        name: lambda *ids, step=step: tf.nest.map_structure(
            lambda x: x.numpy(), step(*ids), expand_composites=True
        )
        for name, step in steps.items()
    }
    times = alternate(runs, seconds, batches=batches, swap=True)
    distinct, all_rows = medians(times["distinct"]), medians(times["all rows"])
    wall, cpu = ratios(times["all rows"], times["distinct"])
    return {
        "batch": size,
        "width": WIDTH,
        "queries": queries,
        "items": items,
        "share": round(queries * items / size**2, 5),
        "turns": distinct["turns"],
        "distinct_ms": distinct["wall_ms"],
        "all_rows_ms": all_rows["wall_ms"],
        "distinct_cpu_ms": distinct["cpu_ms"],
        "all_rows_cpu_ms": all_rows["cpu_ms"],
        "factor": round(wall, 3),
        "factor_cpu": round(cpu, 3),
    }


def fit(rows):
    """What `audit.distinct_loss` calls PAIR_COST and ROW_COST.

    With them, all pairs = factor x (pair x distinct pairs + row x rows): by least
    squares, relative to all pairs.
    """
    batch, queries, items, factor = (
        np.array([float(row[name]) for row in rows]) for name in (*PREDICTORS, "factor")
    )
    costs = np.stack([queries * items / batch**2, 1 / batch], axis=1)
    costs *= factor[:, np.newaxis]
    return np.linalg.lstsq(costs, np.ones(len(costs)), rcond=None)[0]


def errors(rows):
    """The predicted factor over the measured one, of each row."""
    return np.array(
        [
            predicted_factor(*(float(row[name]) for name in PREDICTORS))
            / float(row["factor"])
            for row in rows
        ]
    )


def main():
    parser = command_line.parser(__doc__, ROWS)
    parser.add_argument("--batches", type=int, nargs="+", default=SIZES)
    parser.add_argument("--seconds", type=float, default=3.5)
    arguments = command_line.parse(parser, batches=[128], seconds=0.1)
    steps, about, results = make_steps(), provenance(PACKAGES), []
    for size, users, items in itertools.product(
        arguments.batches, USER_SHARES, ITEM_SHARES
    ):
        row = measure(steps, size, size // users, size // items, arguments.seconds)
        csv_rows.show(row)
        results.append({**row, **about})
    csv_rows.write(arguments.output, FIELDS, results)
    pair, row = fit(results)
    print(f"fitted: pair {pair:.2f}, row {row:.0f}")
    off = errors(results)
    print(
        f"predicted / measured: {off.min():.2f} to {off.max():.2f}, "
        f"median error {np.median(abs(off - 1)):.0%}"
    )


if __name__ == "__main__":
    main()
