"""Bad input: what is said, and that nothing has changed."""

import numpy as np
import pytest
import tensorflow as tf
from grids import only_under, some_of

from tfrs_negatives.index import BruteForce, ScaNN
from tfrs_negatives.metrics import CorpusRecall, PopularityBands

CORPUS = np.eye(4, dtype="float32")
QUERY = CORPUS[:1]
# Raised where only the values tell.
ValuesTell = tf.errors.InvalidArgumentError


def dataset(embeddings, ids=None, batch=2):
    parts = embeddings if ids is None else (ids, embeddings)
    return tf.data.Dataset.from_tensor_slices(parts).batch(batch)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"ks": []}, "distinct values of k"),
        ({"ks": [2, 2]}, "distinct values of k"),
        ({"ks": [0]}, "at least 1"),
        ({"ks": [1.5]}, "at least 1"),
        ({"measures": ["precision"]}, "measures.*precision"),
        ({"popularity": [1, 2]}, "PopularityBands"),
        ({"candidates": [[1.0]]}, "received list"),
        ({"candidates": CORPUS[:0]}, "non-empty"),
        ({"candidates": CORPUS * np.nan}, "4 rows hold NaN"),
        ({"candidate_ids": [1, 2, 2, 3]}, "distinct"),
        ({"candidate_ids": [1, 2]}, "one id per candidate|One id per|Pass one id"),
        ({"candidates": dataset(CORPUS).repeat()}, "endless"),
        ({"candidates": dataset(CORPUS).take(0)}, "empty"),
        ({"candidates": dataset(CORPUS).unbatch()}, r"batches of embeddings \[b, d\]"),
        ({"candidates": dataset({"a": CORPUS})}, r"batches of embeddings \[b, d\]"),
        ({"candidates": dataset(CORPUS, np.ones([4, 1], int))}, r"pairs \(ids \[b\],"),
        ({"candidates": dataset(CORPUS), "candidate_ids": [1]}, "array"),
    ],
)
def test_constructor(options, message):
    options = {"candidates": CORPUS, "ks": [1], **options}
    if "popularity" in options:
        options["candidate_ids"] = np.arange(4)
    with pytest.raises(ValueError, match=message):
        CorpusRecall(**options)


SOURCES = {
    "array": lambda: {"candidates": CORPUS, "candidate_ids": np.arange(4)},
    "dataset": lambda: {"candidates": dataset(CORPUS, np.arange(4))},
    "ScaNN": lambda: {"candidates": ScaNN().index(CORPUS, np.arange(4))},
}


@pytest.mark.parametrize("source", some_of(SOURCES, ["array", "ScaNN"]))
def test_calls(source):
    metric = CorpusRecall(**SOURCES[source](), ks=[1])
    metric.update_state(QUERY, true_candidate_ids=[0])
    for arguments, message in [
        ({}, "received neither"),
        ({"true_candidate_embeddings": CORPUS[:2]}, "true_candidate_embeddings"),
        ({"true_candidate_embeddings": CORPUS[:1, :2]}, "width|not exact"),
        ({"true_candidate_ids": [0, 1]}, "true_candidate_ids"),
        ({"true_candidate_ids": [[[0]]]}, "rank 1 or 2"),
        ({"true_candidate_ids": [0.0]}, "integers or strings"),
        ({"true_candidate_ids": ["a"]}, "as strings|never be equal"),
        ({"true_candidate_ids": [0], "sample_weight": [1.0, 2.0]}, "sample_weight"),
        ({"true_candidate_ids": [0], "excluded_ids": [1]}, "excluded_ids.*rank 2"),
        ({"true_candidate_ids": [0], "excluded_ids": [[1], [2]]}, "excluded_ids"),
        ({"true_candidate_ids": [0], "excluded_ids": [["a"]]}, "excluded_ids"),
        (
            {"true_candidate_embeddings": QUERY, "excluded_ids": [[1]]},
            "needed for `excluded_ids`",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            metric.update_state(QUERY, **arguments)
    for queries, message in [
        (CORPUS[:1, :3], "width 4"),
        (CORPUS[0], "rank 2"),
        (QUERY.astype(int), "floating-point"),
    ]:
        with pytest.raises(ValueError, match=message):
            metric.update_state(queries, true_candidate_ids=[0])
    for bad in (np.nan, np.inf, 1e20):
        queries = np.full_like(QUERY, bad)
        with pytest.raises(ValuesTell, match="query_embeddings.*diverged"):
            metric.update_state(queries, true_candidate_ids=[0])
    if source != "ScaNN":
        with pytest.raises(ValuesTell, match="true_candidate_embeddings.*diverged"):
            metric.update_state(QUERY, np.full_like(QUERY, np.nan))
    # One query so far, which was a hit.
    metric.update_state(QUERY, true_candidate_ids=[1])
    assert float(metric.result()[0]) == 0.5


@pytest.mark.parametrize(
    "embeddings, message",
    [
        (CORPUS * np.nan, "NaN or infinite.*diverged"),
        (CORPUS * 1e20, "NaN or infinite"),
    ],
)
def test_datasets_that_only_reading_tells_about(embeddings, message):
    metric = CorpusRecall(dataset(embeddings, np.arange(4)), ks=[1])
    for _ in range(2):  # And what was refused is not kept.
        with pytest.raises(ValuesTell, match=message):
            metric.update_state(QUERY, true_candidate_ids=[1])
    assert float(metric.result()[0]) == 0


@only_under(keras_3=False, reason="the same corpus under Keras 2")
def test_a_dataset_of_unknown_width():
    corpus = tf.data.Dataset.from_generator(
        lambda: iter([CORPUS]), output_signature=tf.TensorSpec([None, None])
    )
    metric = CorpusRecall(corpus, ks=[1])
    with pytest.raises(ValuesTell, match="as wide as the candidates"):
        metric.update_state(CORPUS[:1, :3], CORPUS[1:2, :3])
    metric.update_state(CORPUS[:1], CORPUS[:1])
    assert float(metric.result()[0]) == 1


@pytest.mark.parametrize("index_class", [BruteForce, ScaNN])
def test_an_index_that_is_not_built(index_class):
    metric = CorpusRecall(index_class(), ks=[5])
    with pytest.raises(ValueError, match="holds no candidates yet"):
        metric.update_state(QUERY, true_candidate_ids=[0])


WITHOUT_IDS = {
    "array": lambda: CORPUS,
    "dataset": lambda: dataset(CORPUS),
}


@pytest.mark.parametrize("source", WITHOUT_IDS)
@pytest.mark.parametrize("ids", [[0], ["a"]])
def test_candidates_without_ids(source, ids):
    """Nobody said that their row numbers are their ids."""
    metric = CorpusRecall(WITHOUT_IDS[source](), ks=[1])
    with pytest.raises(ValueError, match="candidates were given no ids"):
        metric.update_state(QUERY, true_candidate_ids=ids)
    bands = PopularityBands([3, 2, 1, 1])
    with pytest.raises(ValueError, match="`popularity` needs candidates with ids"):
        CorpusRecall(WITHOUT_IDS[source](), ks=[1], popularity=bands)


def test_candidates_whose_scores_would_overflow():
    metric = CorpusRecall(BruteForce().index(CORPUS * 1e30, np.arange(4)), ks=[1])
    with pytest.raises(ValuesTell, match="longer than 1e19"):
        metric.update_state(QUERY * 1e12, true_candidate_ids=[0])


def test_bands():
    for bands in ({}, {"a": 0.5}, {"a": 0.5, "b": 0.5, "c": 1.0}, {"a": 0, "b": 1}):
        with pytest.raises(ValueError, match="ascending shares"):
            PopularityBands([1, 2], bands=bands)
    options = {"ks": [1], "popularity": PopularityBands([3, 2, 1, 1])}
    metric = CorpusRecall(CORPUS, candidate_ids=np.arange(4), **options)
    with pytest.raises(ValueError, match="needed for `popularity`"):
        metric.update_state(QUERY, QUERY)
    with pytest.raises(ValueError, match="can never equal"):
        metric.update_state(QUERY, true_candidate_ids=["a"])


def test_a_corpus_is_no_configuration():
    with pytest.raises(NotImplementedError, match="factorized_metrics"):
        CorpusRecall(CORPUS, ks=[1]).get_config()
