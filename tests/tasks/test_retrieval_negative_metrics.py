"""Metrics of what the task trains against, beside loops in NumPy."""

import numpy as np
import pytest
import tensorflow as tf
import test_retrieval_replicas as replicas
from oracles import dropped_pairs

from tfrs_negatives import metrics
from tfrs_negatives._keras import keras
from tfrs_negatives.layers import CrossBatchMemory, StreamingFrequency
from tfrs_negatives.losses import SampledSigmoid
from tfrs_negatives.models import Model
from tfrs_negatives.tasks import Retrieval

B, C, M, D, H, ITEMS = 10, 13, 3, 3, 2, 8
SOURCES = ["in_batch", "extra", "memory", "per_row"]
COUNTS = [9, 1, 7, 3, 3, 2, 8, 1]
POPULAR = {0, 6}  # The top quarter.


def all_metrics(id_type="int64"):
    found = [
        metrics.FalseNegativeRate(),
        *metrics.FalseNegativeRate.each_source(),
        metrics.FalseNegativeRate(after_masks=False),
        *metrics.FalseNegativeRate.each_source(after_masks=False),
        metrics.NegativeHardness(),
        *metrics.NegativeHardness.each_source(),
        *metrics.NegativeMix.each_source(),
        metrics.DistinctKeys("user"),
        metrics.DistinctKeys("request"),
    ]
    for options in ({"of": "pairs"}, {"of": "rows"}):
        found += [metrics.MaskRate(**options), *metrics.MaskRate.each_source(**options)]
    for options in ({"by": "count"}, {"by": "mass"}):
        kind = metrics.PopularityShare
        ids = typed(range(ITEMS), id_type).numpy()
        options |= {"counts": (ids, COUNTS), "top": 0.25}
        found += [kind(**options), *kind.each_source(**options)]
    return found


def some_metrics():
    """One of each kind, for what has to be traced."""
    return [
        metrics.FalseNegativeRate(),
        metrics.FalseNegativeRate(after_masks=False),
        metrics.MaskRate(),
        metrics.MaskRate(of="rows"),
        metrics.NegativeHardness("extra"),
        metrics.NegativeMix("extra"),
        metrics.PopularityShare(COUNTS, top=0.25, by="mass"),
        metrics.DistinctKeys("user"),
    ]


def make_batch(seed, heads=False):
    rng = np.random.default_rng(seed)
    score_mask = rng.random((B, C)) < 0.7
    score_mask[np.arange(B), np.arange(B)] = True
    return {
        "queries": rng.normal(size=(B, H, D) if heads else (B, D)),
        "candidates": rng.normal(size=(C, D)),
        "negatives": rng.normal(size=(B, M, D)),
        "ids": rng.integers(0, ITEMS, C),
        "negative_ids": rng.integers(0, ITEMS, (B, M)),
        "negative_mask": rng.random((B, M)) < 0.8,
        "user": rng.integers(0, 5, B),
        "request": rng.integers(0, 3, B),
        "known": rng.integers(-1, ITEMS, (B, 2)),
        "measured": rng.integers(-1, ITEMS, (B, 3)),
        "q": rng.uniform(0.05, 0.3, ITEMS),
        "weights": rng.uniform(0.5, 2, B),
        "labels": rng.integers(0, 2, B),
        "score_mask": score_mask,
    }


class Oracle:
    """Sums of all metrics over batches, by loops over pairs."""

    def __init__(self, loss, rules, rows=None, temperature=0.5):
        self.loss, self.rules, self.rows = loss, rules, rows
        self.temperature = temperature
        self.sums = {}

    def add(self, name, numerator, denominator):
        old = self.sums.get(name, np.zeros(2))
        self.sums[name] = old + [numerator, denominator]

    def results(self):
        return {n: a / b if b else 0.0 for n, (a, b) in self.sums.items()}

    def columns(self, batch, i, remembered):
        """Of row i: embedding, id, log q, source, whether offered, whether allowed."""
        ids, rules = batch["ids"], self.rules
        lists = [list(batch[k]) for k in ("user", "request") if k in rules]
        shared_known = batch["known"] if "known" in rules else np.full((B, 1), -1)
        old = remembered or {"candidates": np.zeros((0, D)), "ids": []}
        old_keys = [
            list(old[k]) if remembered else []
            for k in ("user", "request")
            if k in rules
        ]
        all_ids = np.concatenate([ids, old["ids"][:B]]).astype(int)
        mask = np.ones((B, len(all_ids)), bool)
        if "score_mask" in rules:
            mask[:, :C] = batch["score_mask"]
        dropped = dropped_pairs(
            B,
            len(all_ids),
            ids=all_ids,
            accidental_hits="accidental" in rules,
            row_keys=lists,
            column_keys=[
                keys + [None] * (C - B) + more
                for keys, more in zip(lists, old_keys, strict=True)
            ],
            shared="shared" in rules,
            known=[k[k >= 0] for k in shared_known],
            score_mask=mask,
        )
        embeddings = np.concatenate([batch["candidates"], old["candidates"][:B]])
        for k, embedding in enumerate(embeddings):
            source = "in_batch" if k < B else "extra" if k < C else "memory"
            q = remembered["q"] if k >= C else batch["q"]
            log_q = np.log(q[all_ids[k]])
            yield embedding, all_ids[k], log_q, source, k != i, not dropped[i, k]
        if "negatives" not in rules:
            return
        for m in range(M):
            item = batch["negative_ids"][i, m]
            offered = batch["negative_mask"][i, m]
            friends = [ids[j] for k in lists for j in range(B) if k[j] == k[i]]
            bad = (
                ("accidental" in rules and item == ids[i])
                or ("known" in rules and item in batch["known"][i])
                or ("shared" in rules and item in friends)
            )
            log_q = np.log(batch["q"][max(item, 0)])
            yield batch["negatives"][i, m], item, log_q, "per_row", offered, not bad

    def masses(self, own, own_log_q, scores, label):
        """Absolute derivatives of the row's loss in the scores of its negatives."""
        scores = np.array(scores)
        if not len(scores):
            return scores
        if self.loss == "sigmoid":
            # Weight 3 of all, hence 3 / n each, and noise 3 q.
            weight = 3.0 / len(scores)
            shift = np.log(3.0) if "log_q" in self.rules else 0.0
            return weight / (1 + np.exp(-(scores - shift)))
        total = np.exp(scores).sum()
        if self.loss == "refined":
            z = total * (1 - np.exp(own_log_q)) / len(scores)
            return (1 - np.exp(own) / (np.exp(own) + z)) * np.exp(scores) / total
        return np.exp(scores) / (np.exp(own) + total)

    def update(self, batch, remembered=None):
        pairs = []
        rows = range(B) if self.rows is None else self.rows
        weights = batch["weights"] if "weights" in self.rules else np.ones(B)
        for i in rows:
            heads = np.atleast_2d(batch["queries"][i])
            columns = list(self.columns(batch, i, remembered))
            scores = [
                max(h @ c[0] for h in heads) / self.temperature
                - (c[2] if "log_q" in self.rules else 0.0)
                for c in columns
            ]
            own, own_log_q = scores[i], columns[i][2]
            if self.loss in ("negatives", "refined") and "log_q" in self.rules:
                own += own_log_q
            kept = [
                k
                for k, (*_, offered, allowed) in enumerate(columns)
                if offered and allowed
            ]
            if self.loss == "hardest":
                kept = sorted(kept, key=lambda k: -scores[k])[:4]
            masses = self.masses(own, own_log_q, [scores[k] for k in kept], None)
            mass = dict(zip(kept, masses, strict=True))
            truth = "measured" if "measured" in self.rules else "known"
            positives = {*batch[truth][i], batch["ids"][i]} - {-1}
            pairs.append(
                [
                    {
                        "w": weights[i],
                        "source": source,
                        "item": item,
                        "allowed": allowed,
                        "kept": k in mass,
                        "mass": mass.get(k, 0.0),
                        "false": item in positives,
                    }
                    for k, (_, item, _, source, offered, allowed) in enumerate(columns)
                    if offered
                ]
            )
        self.add_all(pairs, weights[list(rows)], batch)

    def add_all(self, rows, weights, batch):
        def total(source, value):
            return sum(
                p["w"] * value(p)
                for row in rows
                for p in row
                if source in (None, p["source"])
            )

        for source in [None, *SOURCES]:
            end = "" if source is None else f"_{source}"

            def add(name, numerator, denominator, source=source, end=end):
                self.add(
                    name + end, total(source, numerator), total(source, denominator)
                )

            add(
                "false_negative_rate",
                lambda p: p["kept"] and p["false"],
                lambda p: p["kept"],
            )
            add("false_negative_rate_before_masks", lambda p: p["false"], lambda p: 1)
            add("mask_rate", lambda p: not p["allowed"], lambda p: 1)
            add(
                "popularity_share",
                lambda p: p["kept"] and p["item"] in POPULAR,
                lambda p: p["kept"],
            )
            add(
                "popularity_share_by_mass",
                lambda p: p["mass"] * (p["item"] in POPULAR),
                lambda p: p["mass"],
            )
            without = [
                not any(p["allowed"] and source in (None, p["source"]) for p in row)
                for row in rows
            ]
            self.add("rows_without_negatives" + end, weights @ without, weights.sum())
            mass = total(None, lambda p: p["mass"])
            if source is None:
                self.add("negative_hardness", mass, weights.sum())
            else:
                self.add(
                    "negative_hardness" + end, total(source, lambda p: p["mass"]), mass
                )
                self.add(
                    "negative_mix" + end,
                    total(source, lambda p: p["kept"]),
                    total(None, lambda p: p["kept"]),
                )
        for key in ("user", "request"):
            self.add(f"distinct_keys_{key}", len(set(batch[key])), 1)


def typed(values, id_type):
    values = np.asarray(values)
    if id_type == "string":
        return tf.constant(np.where(values == 0, "", values.astype(str)))
    if id_type == "negative":
        return tf.constant(values - 1_000, "int64")
    return tf.constant(values, id_type)


def arguments(batch, rules, loss, id_type="int64"):
    given = {
        "candidate_ids": typed(batch["ids"], id_type),
        "measured_positive_ids": typed(batch["measured"], id_type),
    }
    # Keys without a rule would be one.
    given["query_keys"] = {
        name: typed(batch[name] if name in rules else np.arange(B), id_type)
        for name in ("user", "request")
    }
    if "known" in rules:
        given["known_positive_ids"] = typed(batch["known"], id_type)
    if "measured" not in rules:
        del given["measured_positive_ids"]
    if "shared" in rules:
        given["mask_shared_positives"] = True
    if "log_q" in rules:
        given["candidate_log_q"] = np.log(batch["q"][batch["ids"]])
    if "weights" in rules:
        given["sample_weight"] = batch["weights"]
    if "score_mask" in rules:
        given["score_mask"] = batch["score_mask"]
    if "negatives" in rules:
        given["negative_embeddings"] = tf.constant(batch["negatives"])
        given["negative_ids"] = typed(batch["negative_ids"], id_type)
        given["negative_mask"] = batch["negative_mask"]
        if "log_q" in rules:
            given["negative_log_q"] = np.log(batch["q"][batch["negative_ids"]])
    if loss == "sigmoid":
        given["labels"] = batch["labels"]
    return given


def make_task(loss, rules, rows=None, id_type="int64", chosen=None, **options):
    options |= {
        "remove_accidental_hits": "accidental" in rules,
        "negative_metrics": chosen or all_metrics(id_type),
        "negative_metric_rows": rows,
    }
    if loss == "sigmoid":
        return Retrieval(SampledSigmoid(0.5, negative_weight=3.0), **options)
    if loss == "Keras":
        options["loss"] = keras.losses.CategoricalCrossentropy(from_logits=True)
    if loss == "hardest":
        options["num_hard_negatives"] = 4
    if loss in ("negatives", "refined"):
        options["positive"] = loss
    return Retrieval(temperature=0.5, **options)


def results(task):
    return {m.name: float(m.result()) for m in task._negative_metrics}


def assert_same(found, expected, tolerance=1e-5):
    assert len(found) >= len(some_metrics())
    for name, value in found.items():
        np.testing.assert_allclose(
            value, expected[name], rtol=tolerance, atol=tolerance, err_msg=name
        )


def expected_keys(expected, rules):
    """Keys that are no rule are all distinct."""
    for key in ("user", "request"):
        if key not in rules:
            expected[f"distinct_keys_{key}"] = B
    return expected


LOSSES = ["all", "negatives", "refined", "sigmoid", "hardest", "Keras"]
RULES = {
    "none": {"measured"},
    "columns": {"measured", "accidental", "user", "known", "log_q", "weights"},
    "two keys": {"measured", "user", "request", "shared", "log_q"},
    "known alone": {"known", "log_q"},
    "score mask": {"measured", "score_mask", "accidental", "log_q", "negatives"},
    "own": {"measured", "accidental", "user", "shared", "known", "log_q", "weights"}
    | {"negatives"},
}
CASES = [
    (loss, name)
    for loss in LOSSES
    for name, rules in RULES.items()
    if loss != "refined" or "log_q" in rules
]


@pytest.mark.parametrize("loss, name", CASES)
def test_against_loops(loss, name):
    """Two batches add up; every metric, of every source."""
    rules = RULES[name]
    id_type = {"two keys": "string", "own": "string", "columns": "negative"}
    id_type = id_type.get(name, "int64")
    task, oracle = make_task(loss, rules, id_type=id_type), Oracle(loss, rules)
    for seed in (0, 1):
        batch = make_batch(seed)
        oracle.update(batch)
        given = arguments(batch, rules, loss, id_type)
        loss_value = task(batch["queries"], batch["candidates"], **given)
        assert np.isfinite(loss_value)
    expected = expected_keys(oracle.results(), rules)
    assert set(results(task)) == set(expected)
    assert_same(results(task), expected)


@pytest.mark.parametrize("loss", ["all", "hardest", "sigmoid"])
def test_heads(loss):
    rules = RULES["own"]
    task, oracle, batch = make_task(loss, rules), Oracle(loss, rules), make_batch(2, 1)
    oracle.update(batch)
    task(batch["queries"], batch["candidates"], **arguments(batch, rules, loss))
    assert_same(results(task), expected_keys(oracle.results(), rules))


@pytest.mark.parametrize("loss", LOSSES)
def test_memory(loss):
    """What the first batch leaves is a source of the second."""
    rules = RULES["own"] | {"request"}
    memory = CrossBatchMemory(2 * B, D, num_keys=2)
    task, oracle = make_task(loss, rules, memory=memory), Oracle(loss, rules)
    first, second = make_batch(3), make_batch(4)
    for batch in (first, second):
        for metric in task._negative_metrics:
            metric.reset_state()
        given = arguments(batch, rules, loss)
        task(batch["queries"], batch["candidates"], training=True, **given)
    oracle.update(second, remembered=first)
    found = results(task)
    assert found["negative_mix_memory"] > 0.1
    assert_same(found, oracle.results())


@pytest.mark.parametrize("traced", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_some_rows(traced):
    """Evenly spaced: of 10 rows and a limit of 4 these are 0, 2, 5 and 7."""
    rules, batch = RULES["own"], make_batch(5)
    task = make_task("all", rules, rows=4, chosen=some_metrics())
    oracle = Oracle("all", rules, rows=[0, 2, 5, 7])
    oracle.update(batch)
    run = tf.function(task) if traced else task
    run(batch["queries"], batch["candidates"], **arguments(batch, rules, "all"))
    assert_same(results(task), expected_keys(oracle.results(), rules))


def test_some_rows_with_few_masked_pairs():
    """Masks then list pairs instead of comparing all, the positives' own too."""
    rng = np.random.default_rng(0)
    queries, items = rng.normal(size=(2, 300, D))
    ids = np.arange(300)
    ids[150:155] = ids[100:105]
    task = Retrieval(
        remove_accidental_hits=True,
        negative_metrics=[metrics.MaskRate(), metrics.NegativeHardness()],
        negative_metric_rows=6,
    )
    task(queries, items, candidate_ids=ids)
    masses, masked = [], 0
    for i in (0, 50, 100, 150, 200, 250):
        hits = (ids == ids[i]) & (np.arange(300) != i)
        masked += hits.sum()
        scores = np.exp(items @ queries[i]) * ~hits
        masses.append(1 - scores[i] / scores.sum())
    assert masked == 2
    expected = {"mask_rate": 2 / (6 * 299), "negative_hardness": np.mean(masses)}
    for name, value in results(task).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, err_msg=name)


def test_more_rows_than_there_are():
    batch, found = make_batch(6), []
    for rows in (None, B, 1000):
        task = make_task("all", RULES["columns"], rows=rows, chosen=some_metrics())
        given = arguments(batch, RULES["columns"], "all")
        task(batch["queries"], batch["candidates"], **given)
        found.append(results(task))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("name", ["none", "columns", "two keys"])
def test_repeated_embeddings(name):
    """The same as of the embeddings row by row, in the cheaper loss."""
    rules, batch = RULES[name], make_batch(7)
    rng = np.random.default_rng(0)
    query_rows = rng.integers(0, 4, B)
    queries, candidates = batch["queries"][:4], rng.normal(size=(ITEMS, D))
    batch["user"], batch["known"] = query_rows, batch["known"][query_rows]
    batch["queries"], batch["candidates"] = (
        queries[query_rows],
        candidates[batch["ids"]],
    )
    given = arguments(batch, rules, "all")
    task = make_task("all", rules, chosen=some_metrics())
    oracle = Oracle("all", rules)
    oracle.update(batch)
    tf.function(task)(
        queries,
        candidates,
        query_rows=query_rows,
        candidate_rows=batch["ids"],
        **given,
    )
    assert_same(results(task), expected_keys(oracle.results(), rules))


def test_ragged_positives():
    rules, batch = RULES["columns"], make_batch(8)
    task, oracle = make_task("all", rules), Oracle("all", rules)
    oracle.update(batch)
    given = arguments(batch, rules, "all")
    for name in ("measured", "known"):
        given[f"{name}_positive_ids"] = tf.ragged.constant(
            [k[k >= 0] for k in batch[name]], dtype=tf.int64
        )
    task(batch["queries"], batch["candidates"], **given)
    assert_same(results(task), expected_keys(oracle.results(), rules))


@pytest.mark.parametrize(
    "loss", ["all", pytest.param("hardest", marks=pytest.mark.slow)]
)
def test_under_xla(loss):
    rules, batch = RULES["own"], make_batch(9)
    task = make_task(loss, rules, rows=4, chosen=some_metrics())
    oracle = Oracle(loss, rules, [0, 2, 5, 7])
    oracle.update(batch)
    given = arguments(batch, rules, loss)
    run = tf.function(task, jit_compile=True)
    run(batch["queries"], batch["candidates"], **given)
    assert_same(results(task), expected_keys(oracle.results(), rules))


def test_the_loss_and_its_gradients_stay():
    """With metrics, as without."""
    rules, batch, found = RULES["own"], make_batch(10), []
    given = arguments(batch, rules, "all")
    for chosen in (some_metrics(), None):
        task = Retrieval(remove_accidental_hits=True, negative_metrics=chosen)
        leaves = [tf.constant(batch["queries"]), tf.constant(batch["candidates"])]
        with tf.GradientTape() as tape:
            tape.watch(leaves)
            loss = task(*leaves, **given)
        found.append([loss, *tape.gradient(loss, leaves)])
    for with_metrics, without in zip(*found, strict=True):
        np.testing.assert_array_equal(with_metrics, without)


def test_only_with_batch_metrics():
    batch = make_batch(11)
    task = Retrieval(negative_metrics=[metrics.NegativeHardness()])
    for flag, expected in ((False, False), (True, True)):
        task(batch["queries"], batch["candidates"], compute_batch_metrics=flag)
        assert (float(task.metrics[0].result()) > 0) == expected


def everything():
    """With state, and with what looks at other replicas."""
    return Retrieval(
        temperature=0.5,
        remove_accidental_hits=True,
        sampling_correction=StreamingFrequency(64, num_hashes=2),
        memory=CrossBatchMemory(30, replicas.D, num_keys=2, warm_up_steps=1),
        reduction="sum_over_batch_size",
        global_negatives=True,
        negative_metrics=[
            metrics.FalseNegativeRate(),
            metrics.FalseNegativeRate("per_row", after_masks=False),
            metrics.MaskRate("in_batch"),
            metrics.MaskRate(of="rows"),
            metrics.NegativeHardness(),
            *metrics.NegativeHardness.each_source(),
            metrics.NegativeMix("memory"),
            metrics.PopularityShare(np.arange(1, 16), top=0.2),
            metrics.PopularityShare(np.arange(1, 16), top=0.2, by="mass"),
            metrics.DistinctKeys("user"),
        ],
        negative_metric_rows=None,
    )


def all_rules(rows):
    return replicas.all_rules(rows) | {"measured_positive_ids": rows["known"][:, :1]}


@pytest.mark.slow
def test_two_replicas_are_one(two_replicas):
    alone = replicas.Step(everything, extras=True, call=all_rules)
    for _, rows, extra in replicas.make_steps():
        rows = {name: tf.constant(values) for name, values in rows.items()}
        alone(rows, tf.constant(extra))

    with two_replicas.scope():
        step = replicas.Step(everything, extras=True, call=all_rules)
    run = tf.function(lambda *batch: two_replicas.run(step, args=batch))
    for split, rows, extra in replicas.make_steps():
        ends = np.cumsum(split[2])

        def part(context, rows=rows, ends=ends, extra=extra):
            place = context.replica_id_in_sync_group
            here = slice(ends[place - 1] if place else 0, ends[place])
            here = {name: tf.constant(values[here]) for name, values in rows.items()}
            return here, tf.constant(np.split(extra, 2)[place])

        run(*two_replicas.experimental_distribute_values_from_function(part))
    expected, found = results(alone.task), results(step.task)
    assert expected["negative_mix_memory"] > 0.1
    assert 1 < expected["distinct_keys_user"] < 12
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)

    def in_the_step():
        return [metric.result() for metric in step.task._negative_metrics]

    for values, value in zip(
        two_replicas.run(tf.function(in_the_step)), expected.values(), strict=True
    ):
        for one in two_replicas.experimental_local_results(values):
            np.testing.assert_allclose(one, value, rtol=1e-5)


class TwoTowers(Model):
    def __init__(self):
        super().__init__()
        self.users, self.items = (keras.layers.Embedding(ITEMS, 4) for _ in range(2))
        self.task = Retrieval(
            remove_accidental_hits=True,
            global_negatives=True,
            negative_metrics=[
                metrics.FalseNegativeRate(),
                metrics.MaskRate(),
                metrics.NegativeHardness(),
                metrics.DistinctKeys(),
            ],
            negative_metric_rows=None,
        )

    def compute_loss(self, features, training=False):
        return self.task(
            self.users(features["user"]),
            self.items(features["item"]),
            candidate_ids=features["item"],
            query_keys=features["user"],
            measured_positive_ids=features["liked"],
            compute_metrics=not training,
            training=training,
        )


def rows():
    rng = np.random.default_rng(0)
    features = {name: rng.integers(0, ITEMS, 46) for name in ("user", "item")}
    features["liked"] = rng.integers(0, ITEMS, (46, 2))
    # The last batch has 6 rows.
    return tf.data.Dataset.from_tensor_slices(features).batch(10)


def logged_tags(folder):
    from tensorboard.backend.event_processing import event_accumulator

    tags = set()
    for file in folder.rglob("events*"):
        events = event_accumulator.EventAccumulator(str(file))
        events.Reload()
        tags |= {
            tag
            for kind in events.Tags().values()
            if kind is not True and kind is not False
            for tag in kind
        }
    return tags


@pytest.mark.slow
def test_fit_logs_them(tmp_path, two_replicas):
    strategies = [tf.distribute.OneDeviceStrategy("CPU:0"), two_replicas]
    histories = []
    for place, strategy in enumerate(strategies):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            model = TwoTowers()
            model.compile(optimizer=keras.optimizers.SGD(0.0))
        board = keras.callbacks.TensorBoard(tmp_path / str(place), write_graph=False)
        fitted = model.fit(rows(), epochs=2, verbose=0, callbacks=[board])
        histories.append(fitted.history)
    names = ["false_negative_rate", "mask_rate", "negative_hardness", "distinct_keys"]
    for name in names:
        one, two = (np.array(history[name]) for history in histories)
        # Nothing is learned, and each epoch begins anew.
        np.testing.assert_allclose(one[0], one[1], rtol=1e-4)
        np.testing.assert_allclose(two[0], two[1], rtol=1e-4)
        if name != "negative_hardness":  # Towers start elsewhere.
            np.testing.assert_allclose(one, two, rtol=1e-5, err_msg=name)
    assert {f"epoch_{name}" for name in names} <= logged_tags(tmp_path)


@pytest.mark.parametrize(
    "metric, given, message",
    [
        (metrics.FalseNegativeRate, {}, "measured_positive_ids.*or `known_positive"),
        (
            metrics.FalseNegativeRate,
            {"measured_positive_ids": [[1]] * B},
            r"\['false_negative_rate'\].*`candidate_ids`.*\[C\]",
        ),
        (
            metrics.FalseNegativeRate,
            {"measured_positive_ids": [[1]] * 3, "candidate_ids": np.arange(C)},
            "`measured_positive_ids` must have size 10 along axis 0",
        ),
        (
            metrics.FalseNegativeRate,
            {"measured_positive_ids": [["a"]] * B, "candidate_ids": np.arange(C)},
            "can never be equal",
        ),
        (
            lambda: metrics.PopularityShare({"a": 1}),
            {"candidate_ids": np.arange(C)},
            "`popularity_share.ids`.*can never be equal",
        ),
        (lambda: metrics.PopularityShare([1, 2]), {}, "`candidate_ids`"),
        (
            lambda: metrics.PopularityShare([1, 2]),
            {"candidate_ids": np.arange(C), "negative_embeddings": np.ones((B, M, D))},
            r"`negative_ids` of shape \[B, M\]",
        ),
        (metrics.DistinctKeys, {}, "`query_keys`"),
        (
            metrics.DistinctKeys,
            {"query_keys": {"a": np.arange(B), "b": np.arange(B)}},
            r"expected `key`.*\['a', 'b'\]",
        ),
        (
            lambda: metrics.DistinctKeys("c"),
            {"query_keys": np.arange(B)},
            "received key='c'",
        ),
    ],
)
def test_what_a_metric_lacks(metric, given, message):
    batch = make_batch(0)
    keys = given.get("query_keys", {})
    memory = CrossBatchMemory(
        2 * B, D, num_keys=len(keys) if isinstance(keys, dict) else 1
    )
    task = Retrieval(negative_metrics=metric(), memory=memory)
    with pytest.raises(ValueError, match=message):
        task(batch["queries"], batch["candidates"], training=True, **given)
    # Before any state has changed.
    state = [v for v in memory.variables if "share" not in v.name]
    assert not any(np.any(v.numpy()) for v in state)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"negative_metrics": [keras.metrics.Mean()]}, "received Mean.*batch_metrics"),
        ({"negative_metrics": [metrics.MaskRate(), metrics.MaskRate()]}, "distinct"),
        ({"negative_metric_rows": 0}, "at least 1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Retrieval(**options)


def test_rebuilt_from_its_config():
    rules, batch, found = RULES["own"], make_batch(12), []
    task = make_task("all", rules, rows=4, chosen=some_metrics())
    for one in (task, Retrieval.from_config(task.get_config())):
        given = arguments(batch, rules, "all")
        one(batch["queries"], batch["candidates"], **given)
        found.append(results(one))
    assert found[0] == found[1] and len(found[0]) == len(some_metrics())
