"""TFRS's own tests of its corpus metric, with this package's class in its place."""

import unittest

import pytest
from grids import HAS_SCANN

from tfrs_negatives.index import BruteForce, ScaNN
from tfrs_negatives.metrics import CorpusRecall

pytestmark = pytest.mark.usefixtures("keras_2")

# Six of `test_factorized_top_k` and three of `test_id_based_evaluation`. None asserts
# a defect.
NUM_CASES = 9

# TFRS's `Streaming` by itself takes most of this case's 20 seconds.
SLOW_CASE = "test_id_based_evaluation0"

# This one makes TFRS's index of it.
SCANN_CASE = "test_id_based_evaluation2"


def run(monkeypatch, chosen, index_classes=()):
    """Runs the cases whose names are `chosen`, and returns how many ran."""
    from tensorflow_recommenders import layers, metrics
    from tensorflow_recommenders.metrics import factorized_top_k_test

    made = []

    def make(*args, **options):
        made.append(CorpusRecall(*args, **options))
        return made[-1]

    monkeypatch.setattr(metrics, "FactorizedTopK", make)
    for ours in index_classes:
        # Parametrised cases hold TFRS's classes since the module was imported: these
        # are replaced where they are called.
        theirs = getattr(layers.factorized_top_k, ours.__name__)
        monkeypatch.setattr(
            theirs, "__new__", lambda cls, *args, ours=ours, **kw: ours(*args, **kw)
        )
    test_class = factorized_top_k_test.FactorizedTopKTest
    names = unittest.defaultTestLoader.getTestCaseNames(test_class)
    names = [name for name in names if name != "test_session" and chosen(name)]
    result = unittest.TestResult()
    unittest.TestSuite(test_class(name) for name in names).run(result)
    assert not result.failures and not result.errors, result
    assert len(made) == len(names) == result.testsRun
    return result.testsRun


def test_cases_pass(monkeypatch):
    left_out = {SLOW_CASE} if HAS_SCANN else {SLOW_CASE, SCANN_CASE}
    ran = run(monkeypatch, lambda name: name not in left_out)
    assert ran == NUM_CASES - len(left_out)


@pytest.mark.slow(reason="TFRS's own large case")
def test_the_slow_case_passes(monkeypatch):
    assert run(monkeypatch, lambda name: name == SLOW_CASE) == 1


@pytest.mark.scann
@pytest.mark.slow(reason="TFRS's cases a second time, with each index")
def test_all_cases_pass_with_our_indexes(monkeypatch):
    assert run(monkeypatch, lambda name: True, [BruteForce, ScaNN]) == NUM_CASES
