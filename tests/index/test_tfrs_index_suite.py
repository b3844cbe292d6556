"""TFRS's own tests of its indexes, with this package's classes in their place."""

import unittest

import pytest

from tfrs_negatives.index import BruteForce, ScaNN

pytestmark = pytest.mark.usefixtures("keras_2")

# `StreamingTest` is of a class that has no counterpart here: `BruteForce` searches in
# blocks, and `CorpusRecall` reads datasets.
CASES = {"BruteForceTest": 96, "ScannTest": 96 + 9}
suites = pytest.mark.parametrize(
    "test_class", ["BruteForceTest", pytest.param("ScannTest", marks=pytest.mark.scann)]
)


def run(monkeypatch, test_class, chosen=slice(None)):
    from tensorflow_recommenders.layers import factorized_top_k, factorized_top_k_test

    made = []
    for ours in (BruteForce, ScaNN):

        def make(cls, *args, ours=ours, **options):
            made.append(ours(*args, **options))
            return made[-1]

        # Parametrised cases hold TFRS's classes since the module was imported.
        theirs = getattr(factorized_top_k, ours.__name__)
        monkeypatch.setattr(theirs, "__new__", make)
    test_class = getattr(factorized_top_k_test, test_class)
    names = unittest.defaultTestLoader.getTestCaseNames(test_class)
    names = [name for name in names if name != "test_session"]
    suite = unittest.TestSuite(test_class(name) for name in names[chosen])
    result = unittest.TestResult()
    suite.run(result)
    assert not result.failures and not result.errors, result
    assert len(made) == result.testsRun  # Each case makes one index.
    return len(names), result.testsRun


@pytest.mark.slow(reason="all of TFRS's cases, of which some are fast")
@suites
def test_all_cases_pass(monkeypatch, test_class):
    number, ran = run(monkeypatch, test_class)
    assert number == ran == CASES[test_class]


@suites
def test_some_cases_pass(monkeypatch, test_class):
    _, ran = run(monkeypatch, test_class, slice(None, None, 40))
    assert ran >= 3
