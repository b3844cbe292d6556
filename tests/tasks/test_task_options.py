"""Random sets of the task's options, against the same by loops in float64.

The slow test takes its seed from TFRS_NEGATIVES_FUZZ_SEED, or a new one, and prints it.
"""

import os
import random

import numpy as np
import pytest
import task_oracle
import tensorflow as tf
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tfrs_negatives.layers import CrossBatchMemory
from tfrs_negatives.losses import FalseNegativeFilter, SampledSigmoid
from tfrs_negatives.tasks import Retrieval

D = 3

# Ids that are easily taken for something else.
ODD_IDS = [-(2**63), -1, 0, 1, 2, 7, 2**62]


@st.composite
def cases(draw):
    """A `task_oracle.Case`, and how the task computes it."""
    num_rows = draw(st.integers(0, 5))
    num_columns = num_rows + draw(st.integers(0, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    flag = st.booleans()

    def maybe(value):
        return value if draw(flag) else None

    heads = draw(st.sampled_from([None, None, None, 2]))
    repeats = draw(flag)
    num_queries, num_items = num_rows, num_columns
    if repeats:
        num_queries = draw(st.integers(1, max(num_rows, 1)))
        num_items = draw(st.integers(1, max(num_columns, 1)))
    by_row, by_column = np.arange(num_rows), np.arange(num_columns)
    if repeats:
        by_row = rng.integers(0, num_queries, num_rows)
        by_column = rng.integers(0, num_items, num_columns)
    shape = (num_queries, D) if heads is None else (num_queries, heads, D)

    def ids(*size):
        return rng.choice(ODD_IDS, size)

    def keys(size):
        mask = rng.random(size) < 0.7 if draw(flag) else np.ones(size, bool)
        return rng.choice([-1, 0, 3], size), mask

    names = draw(st.sampled_from([[], [], ["user"], ["request", "user"]]))
    query_keys = {name: keys(num_rows) for name in names}
    candidate_keys = {name: keys(num_columns) for name in names if draw(flag)}
    has_ids = draw(flag)
    score_mask = None
    if draw(st.sampled_from([False, False, True])):
        score_mask = rng.random((num_rows, num_columns)) < 0.6
        score_mask[np.arange(num_rows), np.arange(num_rows)] = True
    corrected = draw(flag)
    width = draw(st.sampled_from([None, None, 0, 1, 3]))
    own = width is not None
    sigmoid = draw(st.sampled_from([False, False, True]))
    choices = ["all", "negatives"] + ["refined"] * (corrected and not sigmoid)
    positive = draw(st.sampled_from(choices + ["outside"] * (not sigmoid)))
    log_q = np.log(rng.uniform(0.01, 0.9, num_columns))
    known = None
    if has_ids and draw(flag):
        known = [ids(length) for length in rng.integers(0, 4, num_rows)]
    remembered = []
    if draw(st.sampled_from([False, False, True])):
        remembered = [
            {
                "embedding": rng.normal(size=D),
                "id": maybe(ids(1)[0]),
                "keys": {name: maybe(rng.integers(-1, 3)) for name in names},
                "log_q": np.log(rng.uniform(0.01, 0.9)) if corrected else 0.0,
            }
            for _ in range(draw(st.integers(1, 4)))
        ]
    filters = [None, None, {"margin": 0.3}, {"margin": -0.4}, {"share": 0.8}]
    chosen = draw(st.sampled_from(filters))
    has_guide = chosen is not None and not remembered and draw(flag)
    query_strata = candidate_strata = None
    if not remembered and draw(st.sampled_from([False, False, True])):
        query_strata = rng.choice([-1, 0, 2**62], num_rows)
        if draw(flag):
            mask = rng.random(num_columns) < draw(st.sampled_from([0.0, 0.7, 1.0]))
            candidate_strata = rng.choice([-1, 0, 5, 2**62], num_columns), mask
    targets = {}
    kind = draw(st.sampled_from([None, None, "ids", "embeddings"]))
    if kind and not sigmoid and positive != "refined":
        lengths = rng.integers(0, 5, num_rows)
        if kind == "embeddings":
            most = rng.integers(1, 4)
            lengths = np.full(num_rows, most)
            targets["target_embeddings"] = rng.normal(size=(num_rows, most, D))
            if corrected and positive == "all":
                target_log_q = np.log(rng.uniform(0.01, 0.9, (num_rows, most)))
                targets["target_log_q"] = target_log_q
        if has_ids:
            targets["target_ids"] = [ids(length) for length in lengths]
        if targets:
            # Some are 0, but not the last of a list.
            targets["target_weights"] = [
                rng.uniform(0.1, 3, n) * (rng.permutation(max(n, 1))[:n] != 1)
                for n in lengths
            ]
            targets["target_share"] = draw(st.sampled_from([None, 0.0, 0.3, 1.0]))
    return task_oracle.Case(
        **targets,
        queries=rng.normal(size=shape),
        candidates=rng.normal(size=(num_items, D)),
        query_rows=by_row,
        candidate_rows=by_column,
        temperature=draw(st.sampled_from([1.0, 0.3, 2.5])),
        positive=positive,
        sigmoid=sigmoid,
        negative_weight=maybe(1.7) if sigmoid or positive == "outside" else None,
        num_hard_negatives=draw(st.sampled_from([None, None, 1, 2, 50])),
        reduction=draw(
            st.sampled_from(
                ["sum", "sum_over_batch_size", "mean_with_sample_weight", "none"]
            )
        ),
        remove_accidental_hits=has_ids and draw(flag),
        mask_shared_positives=has_ids and bool(names) and draw(flag),
        ids=ids(num_columns) if has_ids else None,
        query_keys=query_keys,
        candidate_keys=candidate_keys,
        query_strata=query_strata,
        candidate_strata=candidate_strata,
        known=known,
        score_mask=score_mask,
        log_q=log_q if corrected else None,
        negatives=rng.normal(size=(num_rows, width, D)) if own else None,
        negative_ids=ids(num_rows, width) if own and has_ids else None,
        negative_mask=maybe(rng.random((num_rows, width or 0)) < 0.7) if own else None,
        negative_log_q=np.log(rng.uniform(0.01, 0.9, (num_rows, width)))
        if own and corrected
        else None,
        labels=maybe(rng.uniform(size=num_rows)) if sigmoid else None,
        sample_weight=maybe(rng.uniform(0, 2, num_rows)),
        remembered=remembered,
        false_negatives=chosen,
        guide_queries=rng.normal(size=(num_rows, 2)) if has_guide else None,
        guide_candidates=rng.normal(size=(num_columns, 2)) if has_guide else None,
    )


FORMS = st.fixed_dictionaries(
    {
        "strings": st.booleans(),
        "ragged": st.booleans(),
        "row_block": st.sampled_from([None, None, 1, 2]),
        "gathered": st.booleans(),
        "how": st.sampled_from(
            ["eager"] * 40 + ["graph"] * 4 + ["static"] * 3 + ["xla", "compiled"]
        ),
    }
)


def typed(ids, strings):
    ids = np.asarray(ids, np.int64)
    if strings:
        return tf.constant(np.where(ids == -1, "", ids.astype(str)), tf.string)
    return tf.constant(ids)


def memory_of(case):
    """A memory whose queue holds the case's entries."""
    names = sorted(case.query_keys)
    memory = CrossBatchMemory(100, D, num_keys=len(names))
    for entry in case.remembered:
        held = [entry["keys"][name] for name in names]
        memory.write(
            tf.constant([entry["embedding"]], tf.float32),
            ids=None if entry["id"] is None else tf.constant([entry["id"]], tf.int64),
            keys=tf.constant([[5 if k is None else k for k in held]], tf.int64),
            log_q=tf.constant([entry["log_q"]], tf.float32),
            has_key=tf.constant([[k is not None for k in held]], tf.bool),
        )
    return memory


def task_of(case, form):
    options = {
        "temperature": case.temperature,
        "positive": case.positive,
        "num_hard_negatives": case.num_hard_negatives,
        "row_block": form["row_block"],
        "reduction": case.reduction,
        "negative_weight": case.negative_weight,
    }
    if case.false_negatives is not None:
        chosen = FalseNegativeFilter(**case.false_negatives)
        options["false_negative_filter"] = chosen
    memory = memory_of(case) if case.remembered else None
    if case.sigmoid:
        loss = SampledSigmoid(**options)
        options = {"loss": loss}
    else:
        options["target_share"] = case.target_share
    return Retrieval(
        remove_accidental_hits=case.remove_accidental_hits,
        mask_shared_positives=case.mask_shared_positives,
        memory=memory,
        absent_targets="drop",
        jit_compile=form["how"] == "compiled" and case.reduction != "none",
        **options,
    )


def arguments(case, form):
    strings = form["strings"]
    found = {}

    def add(name, value, convert=tf.constant):
        if value is not None:
            found[name] = convert(value)

    add("candidate_ids", case.ids, lambda ids: typed(ids, strings))
    if case.known is not None:
        ragged = tf.RaggedTensor.from_row_lengths(
            typed(np.concatenate([*case.known, []]), strings),
            np.array([len(k) for k in case.known], np.int64),
        )
        # An id that no item has.
        filler = "none" if strings else 12_345
        found["known_positive_ids"] = (
            ragged if form["ragged"] else ragged.to_tensor(filler)
        )
    if case.target_weights is not None:
        found |= targets_of(case, form)
    for kind, keys in (("query", case.query_keys), ("candidate", case.candidate_keys)):
        if keys:
            found[f"{kind}_keys"] = {n: tf.constant(k) for n, (k, _) in keys.items()}
            masks = {n: tf.constant(m) for n, (_, m) in keys.items() if not m.all()}
            if masks:
                found[f"{kind}_key_mask"] = masks
    add("query_strata", case.query_strata, lambda ids: typed(ids, strings))
    if case.candidate_strata is not None:
        values, mask = case.candidate_strata
        found["candidate_strata"] = typed(values, strings)
        if not mask.all():
            found["candidate_stratum_mask"] = tf.constant(mask)
    add("score_mask", case.score_mask)
    add("candidate_log_q", case.log_q)
    add("negative_embeddings", case.negatives)
    add("negative_ids", case.negative_ids, lambda ids: typed(ids, strings))
    add("negative_mask", case.negative_mask)
    add("negative_log_q", case.negative_log_q)
    add("labels", case.labels)
    add("sample_weight", case.sample_weight)
    add("guide_query_embeddings", case.guide_queries)
    add("guide_candidate_embeddings", case.guide_candidates)
    return found


def targets_of(case, form):
    """Targets as lists, or padded with weights of 0 and, where there are none, own."""
    found = {}
    if case.target_embeddings is not None:
        found["target_embeddings"] = tf.constant(case.target_embeddings)
        shape = case.target_embeddings.shape[:2]
        weights = np.array(case.target_weights).reshape(shape)
        found["target_weights"] = tf.constant(weights)
        if case.target_log_q is not None:
            found["target_log_q"] = tf.constant(case.target_log_q)
        if case.target_ids is not None:
            ids = np.array(case.target_ids, np.int64).reshape(shape)
            found["target_ids"] = typed(ids, form["strings"])
    elif form["ragged"]:
        lengths = np.array([len(ids) for ids in case.target_ids], np.int64)
        for name in ("target_ids", "target_weights"):
            flat = np.concatenate([*getattr(case, name), []])
            flat = typed(flat, form["strings"]) if name == "target_ids" else flat
            found[name] = tf.RaggedTensor.from_row_lengths(flat, lengths)
    else:
        longest = max([1, *(len(ids) for ids in case.target_ids)])
        ids = np.full((case.num_rows, longest), 12_345, np.int64)
        weights = np.zeros((case.num_rows, longest))
        for i, listed in enumerate(case.target_ids):
            ids[i, : len(listed)] = listed
            weights[i, : len(listed)] = case.target_weights[i]
            if not len(listed):
                ids[i, 0], weights[i, 0] = case.ids[i], 1
        found["target_ids"] = typed(ids, form["strings"])
        found["target_weights"] = tf.constant(weights)
    return found


def computed(case, form):
    """The loss of the task, and its gradients in all embeddings."""
    task, given = task_of(case, form), arguments(case, form)
    if case.remembered and form["strings"]:
        # The queue holds hashes of strings, which the oracle does not know.
        given = arguments(case, {**form, "strings": False})
    leaves = {
        "query_embeddings": tf.constant(case.queries),
        "candidate_embeddings": tf.constant(case.candidates),
    }
    for name in ("negative_embeddings", "target_embeddings"):
        if name in given:
            leaves[name] = given.pop(name)
    rows = {
        "query_rows": tf.constant(case.query_rows),
        "candidate_rows": tf.constant(case.candidate_rows),
    }

    def run(leaves, given, rows):
        given = dict(given)
        with tf.GradientTape() as tape:
            tape.watch(leaves)
            given |= leaves
            if form["gathered"]:
                for kind in ("query", "candidate"):
                    name = f"{kind}_embeddings"
                    given[name] = tf.gather(leaves[name], rows[f"{kind}_rows"])
            else:
                given |= rows
            loss = task(training=False, **given)
            total = tf.reduce_sum(loss)
        gradients = tape.gradient(
            total, leaves, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return loss, {n: tf.convert_to_tensor(g) for n, g in gradients.items()}

    how = form["how"]
    if how == "eager":
        return run(leaves, given, rows)

    def spec(value):
        if isinstance(value, tf.RaggedTensor):
            return tf.RaggedTensorSpec([None, None], value.dtype)
        unknown = how in ("graph", "compiled")
        shape = [None] * value.shape.rank if unknown else value.shape
        return tf.TensorSpec(shape, value.dtype)

    values = leaves, given, rows
    signature = tf.nest.map_structure(spec, values)
    jit_compile = True if how == "xla" else None
    return tf.function(run, input_signature=signature, jit_compile=jit_compile)(*values)


def check(case, form):
    if form["how"] == "xla":
        form = {**form, "strings": False, "ragged": False}
    loss, gradients = computed(case, form)
    expected, _ = task_oracle.loss(case)
    # A queue holds float32.
    tolerance = 1e-5 if case.remembered else 1e-8
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(loss, expected, rtol=tolerance, atol=tolerance)
    rng = np.random.default_rng(0)
    attributes = {
        "query_embeddings": "queries",
        "candidate_embeddings": "candidates",
        "negative_embeddings": "negatives",
        "target_embeddings": "target_embeddings",
    }
    directions = {
        attributes[name]: rng.normal(size=gradient.shape)
        for name, gradient in gradients.items()
    }
    found = sum(
        np.sum(gradient.numpy() * directions[attributes[name]])
        for name, gradient in gradients.items()
    )
    slope = task_oracle.slope(case, directions)
    np.testing.assert_allclose(found, slope, rtol=1e-4, atol=1e-5)


OPTIONS = {
    "deadline": None,
    "database": None,
    "print_blob": True,
    "suppress_health_check": list(HealthCheck),
}


@settings(max_examples=20, derandomize=True, **OPTIONS)
@given(case=cases(), form=FORMS)
def test_some_random_options(case, form):
    # The others take seconds to trace.
    check(case, {**form, "how": "eager"})


@pytest.mark.slow(reason="thousands of random cases")
@pytest.mark.parametrize("part", range(4))
def test_many_random_options(part, capsys):
    given_seed = os.environ.get("TFRS_NEGATIVES_FUZZ_SEED")
    number = int(given_seed) if given_seed else random.SystemRandom().randrange(2**32)
    with capsys.disabled():
        print(f"\ntask options, part {part}: TFRS_NEGATIVES_FUZZ_SEED={number}")

    @seed(number + part)
    @settings(max_examples=550, **OPTIONS)
    @given(case=cases(), form=FORMS)
    def run(case, form):
        check(case, form)

    run()
