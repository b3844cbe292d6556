"""What indexes say of themselves."""

import numpy as np
import pytest
import tensorflow as tf

from tfrs_negatives.index import (
    BruteForce,
    RankedPairs,
    ScaNN,
    export_retrieval,
    load_retrieval,
)

CANDIDATES = np.eye(6, 3, dtype=np.float32)
IDS = tf.constant(list("abcdef"))


@pytest.mark.parametrize("index_class", [BruteForce, ScaNN])
def test_an_index_tells_its_name_and_what_it_holds(index_class):
    name = index_class.__name__
    index = index_class(name="mine")
    assert repr(index) == f"{name}(name='mine')"
    index.index(CANDIDATES, IDS)
    assert repr(index) == (
        f"{name}(name='mine', num_items=6, width=3, ids='string', default_k=6)"
    )
    index.index(CANDIDATES[:2, :2])
    assert repr(index) == (
        f"{name}(name='mine', num_items=2, width=2, ids='int32', default_k=2)"
    )


@pytest.mark.scann
def test_an_index_tells_the_options_that_were_chosen():
    index = ScaNN(tf.identity, k=3, storage="int8", num_leaves=20, name="mine")
    text = repr(index.index(CANDIDATES))
    assert text.startswith("ScaNN(query_model=identity, name='mine', k=3, ")
    assert "num_leaves=20" in text and "storage='int8'" in text
    assert "training_iterations" not in text
    assert text.endswith("default_k=3)")


def test_an_export_tells_where_it_was_loaded_from(tmp_path):
    path = export_retrieval(
        tmp_path / "model",
        tf.identity,
        BruteForce(k=2).index(CANDIDATES, IDS),
        query_signature=tf.TensorSpec([None, 3]),
    )
    assert repr(load_retrieval(path)) == (
        f"SavedRetrieval(path={path!r}, index='BruteForce', num_items=6, width=3, "
        "ids='string', default_k=2)"
    )


def test_ranked_pairs_tell_how_many_there_are():
    pairs = RankedPairs({"query": [7, 7, 8], "item": [1, 2, 1], "score": [0.1, 1, 2]})
    assert repr(pairs) == "RankedPairs(num_queries=2, num_items=2, num_pairs=3)"
