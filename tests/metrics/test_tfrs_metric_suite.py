"""TFRS's own tests of its corpus metric, with this package's class in its place."""

import unittest

import pytest

from tfrs_negatives.index import BruteForce, ScaNN
from tfrs_negatives.metrics import CorpusRecall

pytestmark = pytest.mark.usefixtures("keras_2")

# Six of `test_factorized_top_k` and three of `test_id_based_evaluation`. None asserts
# a defect.
NUM_CASES = 9


@pytest.mark.parametrize("indexes", ["TFRS's indexes", "our indexes"])
def test_all_cases_pass(monkeypatch, indexes):
    from tensorflow_recommenders import layers, metrics
    from tensorflow_recommenders.metrics import factorized_top_k_test

    monkeypatch.setattr(metrics, "FactorizedTopK", CorpusRecall)
    if indexes == "our indexes":
        # The cases name classes when the module is imported: these are replaced where
        # they are called.
        for ours in (BruteForce, ScaNN):
            theirs = getattr(layers.factorized_top_k, ours.__name__)
            monkeypatch.setattr(
                theirs, "__new__", lambda cls, *args, ours=ours, **kw: ours(*args, **kw)
            )
    suite = unittest.defaultTestLoader.loadTestsFromModule(factorized_top_k_test)
    result = unittest.TestResult()
    suite.run(result)
    skipped = len(result.skipped)  # `test_session`, which TensorFlow skips.
    assert not result.failures and not result.errors, result
    assert result.testsRun - skipped == NUM_CASES
