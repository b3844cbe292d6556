"""Measures over the corpus, beside rankings in NumPy."""

import corpus_oracle as oracle
import numpy as np
import pytest
import tensorflow as tf
from corpus_problem import KS, MEASURES, B, D, Problem, close, results
from grids import some_of

from tfrs_negatives._keras import IS_KERAS_3
from tfrs_negatives.metrics import CorpusRecall, PopularityBands

SAME_KIND = pytest.mark.slow(reason="another form of ids for a kind of corpus")
OTHER_KIND = pytest.mark.slow(
    reason="an array in test_bands, indexes in test_corpus_recall_sources"
)


@pytest.mark.parametrize(
    "kind, strings, form",
    [
        ("dataset", True, "dense"),
        pytest.param("dataset", False, "ragged", marks=SAME_KIND),
        pytest.param("BruteForce", True, "ragged", marks=OTHER_KIND),
        pytest.param("array", False, "dense", marks=OTHER_KIND),
        ("ScaNN", False, "dense"),
        pytest.param("ScaNN", True, "ragged", marks=SAME_KIND),
    ],
)
def test_measures(kind, strings, form):
    """Ties, several positives, exclusions, unknown ids and weights at once."""
    problem = Problem(strings=strings)
    metric = CorpusRecall(**problem.source(kind), ks=KS, measures=MEASURES)
    form = getattr(problem, form)
    for part in (slice(0, 4), slice(4, B)):  # In two batches.
        metric.update_state(
            problem.queries[part],
            true_candidate_ids=problem.ragged(problem.positives[part]),
            sample_weight=problem.weights[part],
            excluded_ids=form(problem.excluded[part]),
        )
    positives = [set(p) for p in problem.positives]
    expected = oracle.means(
        MEASURES, KS, problem.rankings(), positives, problem.weights
    )
    close(results(metric), expected)


@pytest.mark.parametrize("kind", some_of(["dataset", "BruteForce"], ["BruteForce"]))
def test_one_positive_in_all_forms(kind):
    """By id, by embedding, as column: the same, and TFRS's names."""
    problem = Problem(3)
    metric = CorpusRecall(**problem.source(kind), ks=KS)
    rows = np.arange(B) * 4
    ids = np.array(problem.ids)[rows]
    problem.positives = [[i] for i in ids]
    rankings = problem.rankings(excluded=False)
    expected = oracle.means(["hit_rate"], KS, rankings, problem.positives)
    expected = {f"top_{k}_categorical_accuracy": expected[f"hit_rate@{k}"] for k in KS}
    for arguments in (
        (problem.queries, problem.candidates[rows]),
        (problem.queries, problem.candidates[rows], ids),
        (problem.queries, None, ids[:, np.newaxis]),
    ):
        metric.reset_state()
        assert all(value == 0 for value in results(metric).values())
        metric.update_state(*arguments)
        close(results(metric), expected)


def test_bands():
    problem = Problem(1)
    counts = {item: count for count, item in enumerate(problem.ids[:-4])}
    # 36 counted items, the most popular last: 8 head, 10 torso, and the rest tail.
    bands = {
        "head": set(problem.ids[28:36]),
        "torso": set(problem.ids[18:28]),
    }
    others = bands["head"] | bands["torso"]
    metric = CorpusRecall(
        **problem.source("array"),
        ks=KS,
        measures=["recall", "ndcg"],
        popularity=PopularityBands(counts),
    )
    metric.update_state(
        problem.queries,
        true_candidate_ids=problem.ragged(problem.positives),
        sample_weight=problem.weights[:, np.newaxis],
    )
    rankings = problem.rankings(excluded=False)
    expected = {}
    for prefix, counted in {
        "": lambda item: True,
        "head/": bands["head"].__contains__,
        "torso/": bands["torso"].__contains__,
        "tail/": lambda item: item not in others,
    }.items():
        means = oracle.means(
            ["recall", "ndcg"],
            KS,
            rankings,
            problem.positives,
            problem.weights,
            counted,
        )
        expected |= {prefix + name: value for name, value in means.items()}
    close(results(metric), expected)


def test_a_model_that_embeds_all_alike_finds_nothing():
    """TFRS calls it perfect. The vector is not short, so that sums are rounded."""
    rng = np.random.default_rng(0)
    same = rng.normal(size=24).astype("float32")
    corpus = np.tile(same, [300, 1])
    queries = np.tile(rng.normal(size=24).astype("float32"), [5, 1])
    options = {"ks": [1, 299, 300], "measures": ["hit_rate", "mrr"]}
    metric = CorpusRecall(corpus, candidate_ids=np.arange(300), **options)
    for positives in ({"true_candidate_ids": np.arange(5) * 60}, {}):
        metric.reset_state()
        metric.update_state(queries, corpus[:5], **positives)
        found = results(metric)
        assert found["hit_rate@1"] == found["hit_rate@299"] == 0
        assert found["hit_rate@300"] == 1
        np.testing.assert_allclose(found["mrr@300"], 1 / 300, rtol=1e-6)


def test_embeddings_of_another_batch_are_recognised():
    """A tower's last bits may differ from batch to batch."""
    rng = np.random.default_rng(5)
    corpus = rng.normal(size=(200, 32)).astype("float32")
    corpus[7] = corpus[3]
    positives = corpus[:20] * (1 + rng.choice([-1e-7, 0, 1e-7, 4e-7], (20, 32)))
    # A query in the direction of its positive finds it first.
    metric = CorpusRecall(corpus, ks=[1, 2], measures="hit_rate")
    metric.update_state(corpus[:20], positives.astype("float32"))
    # But for the two copies, of which each has the other before it.
    close(results(metric), {"hit_rate@1": 18 / 20, "hit_rate@2": 1.0})


def test_a_positive_outside_of_the_corpus():
    corpus = np.eye(3, dtype="float32")
    options = {"candidate_ids": [0, 1, 2], "measures": "hit_rate"}
    metric = CorpusRecall(corpus, ks=[1, 2, 3], **options)
    # Scores of the corpus are 3, 2 and 1: by its embedding the positive is second.
    query, positive = [[3.0, 2.0, 1.0]], [[0.0, 1.25, 0.0]]
    metric.update_state(query, positive)
    close(results(metric), {"hit_rate@1": 0.0, "hit_rate@2": 1.0, "hit_rate@3": 1.0})
    # By an id that the corpus does not have it is a miss.
    metric.reset_state()
    metric.update_state(query, positive, [3])
    close(results(metric), {"hit_rate@1": 0.0, "hit_rate@2": 0.0, "hit_rate@3": 0.0})


def test_no_rows_one_row_and_rows_without_positives():
    corpus, ids = np.eye(3, dtype="float32"), [0, 1, -1]
    metric = CorpusRecall(corpus, [1], candidate_ids=ids, measures=["ndcg"])
    metric.update_state(tf.zeros([0, 3]), true_candidate_ids=tf.zeros([0, 2], tf.int64))
    close(results(metric), {"ndcg@1": 0.0})
    query, none = [[1.0, 2.0, 3.0]], tf.ragged.constant([[]], tf.int64)
    metric.update_state(query, true_candidate_ids=none)
    close(results(metric), {"ndcg@1": 0.0})
    metric.update_state(query, true_candidate_ids=[[-1]])
    close(results(metric), {"ndcg@1": 1.0})
    # One query of no positive counts nothing, one of an unknown positive does.
    metric.update_state(query, true_candidate_ids=[[-7]])
    close(results(metric), {"ndcg@1": 0.5})


def test_one_trace_for_all_batch_sizes():
    problem = Problem(2)
    metric = CorpusRecall(**problem.source("dataset"), ks=KS)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, D]),
            tf.RaggedTensorSpec([None, None], tf.int64),
        ]
    )
    def step(queries, ids):
        metric.update_state(queries, true_candidate_ids=ids)
        return metric.result()

    ids = problem.ragged(problem.positives)
    for rows in (B, 2, 1, 0, B):
        step(problem.queries[:rows], ids[:rows, : rows + 1])
    assert step.experimental_get_tracing_count() == 1
    metric.reset_state()
    found = step(problem.queries, ids)
    rankings = problem.rankings(excluded=False)
    positives = [set(p) for p in problem.positives]
    expected = oracle.means(["hit_rate"], KS, rankings, positives)
    np.testing.assert_allclose(found, list(expected.values()), rtol=1e-6)


def test_half_precision_and_float64():
    problem = Problem(4)
    for dtype in (tf.bfloat16, tf.float64):
        # Small whole numbers are the same in all of them.
        corpus = tf.data.Dataset.from_tensors(tf.cast(problem.candidates, dtype))
        metric = CorpusRecall(corpus, ks=KS, measures="mrr")
        rows = np.arange(B)
        metric.update_state(
            tf.cast(problem.queries, dtype), tf.cast(problem.candidates[rows], dtype)
        )
        problem.positives = [[problem.ids[r]] for r in rows]
        rankings = problem.rankings(excluded=False)
        close(results(metric), oracle.means(["mrr"], KS, rankings, problem.positives))


@pytest.mark.parametrize("kind", ["dataset", "array", "BruteForce", "ScaNN"])
@pytest.mark.parametrize(
    "by_id",
    [True, pytest.param(False, marks=pytest.mark.slow(reason="by ids is fast"))],
)
def test_k_beyond_the_corpus(kind, by_id):
    """The default `ks` go to 100; the corpus has 40."""
    problem = Problem(6)
    metric = CorpusRecall(**problem.source(kind))
    rows = np.arange(B)
    problem.positives = [[problem.ids[r]] for r in rows]
    ids = np.array(problem.ids)[rows] if by_id else None
    if kind == "ScaNN" and not by_id:
        return  # It needs ids.
    metric.update_state(problem.queries, problem.candidates[rows], ids)
    rankings, ks = problem.rankings(excluded=False), (1, 5, 10, 50, 100)
    expected = oracle.means(["hit_rate"], ks, rankings, problem.positives)
    names = [f"top_{k}_categorical_accuracy" for k in ks]
    close(results(metric), dict(zip(names, expected.values(), strict=True)))
    assert results(metric)["top_100_categorical_accuracy"] == 1
    # With more positives than candidates in reach, exclusions, and all measures.
    problem = Problem(7)
    metric = CorpusRecall(**problem.source(kind), ks=(39, 41, 60), measures=MEASURES)
    metric.update_state(
        problem.queries,
        true_candidate_ids=problem.ragged(problem.positives),
        excluded_ids=problem.ragged(problem.excluded),
    )
    sets = [set(p) for p in problem.positives]
    expected = oracle.means(MEASURES, (39, 41, 60), problem.rankings(), sets)
    close(results(metric), expected)


def ranked_rows(query, corpus, ids, positives, excluded):
    """Ids of all rows, best first; of equal scores positives come last."""
    scores = np.float64(corpus) @ np.float64(query)
    left = [r for r, i in enumerate(ids) if i in positives or i not in excluded]
    order = sorted(left, key=lambda row: (-scores[row], ids[row] in positives))
    return [ids[row] for row in order]


@pytest.mark.parametrize(
    "strings",
    [True, pytest.param(False, marks=pytest.mark.slow(reason="strings are fast"))],
)
@pytest.mark.parametrize("alike", some_of([True, False], [True]))
def test_an_id_may_have_several_rows(strings, alike):
    """As a catalogue's titles may; of the rows of a positive the best counts."""
    rng = np.random.default_rng(8)
    numbers = np.concatenate([np.arange(30), rng.integers(0, 30, 12), [3, 3]]) - 5
    corpus = rng.normal(size=(44, 4)).astype("float32")
    if alike:
        corpus = corpus[numbers + 5]
    order = rng.permutation(44)
    numbers, corpus = numbers[order], corpus[order]
    names = [f"title {n}" if n else "" for n in range(-5, 30)]
    ids = [names[n + 5] for n in numbers] if strings else numbers.tolist()
    queries = rng.normal(size=(25, 4)).astype("float32")
    positives = [ids[i] for i in rng.integers(0, 44, 25)]
    excluded = [[ids[i] for i in rng.integers(0, 44, 3)] for _ in queries]
    dataset = tf.data.Dataset.from_tensor_slices((ids, corpus)).batch(9)
    metric = CorpusRecall(dataset, ks=KS, measures=["mrr", "hit_rate"])
    for out in (None, excluded):
        metric.reset_state()
        metric.update_state(queries, None, positives, excluded_ids=out)
        rankings = [
            ranked_rows(query, corpus, ids, {own}, set(out[row]) if out else ())
            for row, (query, own) in enumerate(zip(queries, positives, strict=True))
        ]
        ranks = [r.index(own) + 1 for r, own in zip(rankings, positives, strict=True)]
        expected = {f"mrr@{k}": np.mean([(r <= k) / r for r in ranks]) for k in KS}
        hits = {f"hit_rate@{k}": np.mean([r <= k for r in ranks]) for k in KS}
        close(results(metric), expected | hits)
    if not IS_KERAS_3:
        import tensorflow_recommenders as tfrs

        theirs = tfrs.metrics.FactorizedTopK(dataset, ks=KS)
        theirs.update_state(queries, queries, tf.constant(positives))
        metric.reset_state()
        metric.update_state(queries, None, positives)
        found = [results(metric)[f"hit_rate@{k}"] for k in KS]
        np.testing.assert_allclose(found, theirs.result(), rtol=1e-6)


def test_names_in_the_logs():
    """Its own where it is asked for more than TFRS's metric has."""
    corpus, ks = np.eye(3, dtype="float32"), [1]
    tfrs_name = "factorized_top_k/top_1_categorical_accuracy"
    assert CorpusRecall(corpus, ks).names == [tfrs_name]
    assert CorpusRecall(corpus, ks, measures="ndcg").names == ["corpus/ndcg@1"]
    assert CorpusRecall(corpus, ks, "a", measures="mrr").names == ["a/mrr@1"]
