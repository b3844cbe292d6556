"""The table over discounts, from what was found for each seed."""

from types import SimpleNamespace

import numpy as np
import pytest

from tfrs_negatives.cli import trade_off
from tfrs_negatives.recommender.popularity_tradeoff import DISCOUNTS


def of_seed(shift, has_validation=True):
    def over(scale):
        return [
            {
                "recall@50": scale * (0.3 - 0.2 * discount) + shift,
                "tail recall@50": scale * 0.1 * discount + shift,
                "coverage@10": 0.5,
                "ndcg@10": 0.1,
            }
            for discount in DISCOUNTS
        ]

    return trade_off.OfSeed(over(1.0), over(0.5) if has_validation else None)


def parts(validation):
    return SimpleNamespace(
        held_out=SimpleNamespace(users=np.arange(9)),
        validation=validation,
        training=SimpleNamespace(item_ids=np.arange(5)),
    )


def test_summary_of_two_seeds():
    found = trade_off.summary([of_seed(0.0), of_seed(0.02)], parts(object()))
    assert found["users"] == 9
    # Means of validation: 0.16 - 0.1 beta, of which two thirds are left until 0.533.
    assert found["chosen"] == 0.5
    assert [of["popularity_discount"] for of in found["discounts"]] == list(DISCOUNTS)
    of = found["discounts"][5]
    assert of["figures"]["recall@50"]["by_seed"] == pytest.approx([0.2, 0.22])
    assert of["figures"]["recall@50"]["mean"] == pytest.approx(0.21)
    assert of["validation"]["tail recall@50"]["mean"] == pytest.approx(0.035)
    told = trade_off.told(found)
    assert told == (
        "note: the suggestion is --popularity-discount 0.5: it has the best tail "
        "recall@50 on validation pairs, among the discounts that keep at least 67% of "
        "the recall@50 without a discount. A query of the same model then has "
        "recall@50 0.2100 ± 0.0141, tail recall@50 0.0600 ± 0.0141, coverage@10 0.5000 "
        "± 0.0000."
    )


def test_without_validation_none_is_chosen():
    found = trade_off.summary([of_seed(0.0, has_validation=False)], parts(None))
    assert found["chosen"] is None
    assert found["discounts"][0]["validation"] is None
    assert trade_off.told(found) is None


def test_no_discount_is_told_too():
    found = trade_off.summary([of_seed(0.0)], parts(object()))
    told = trade_off.told({**found, "chosen": 0.0})
    assert told.startswith(
        "note: the suggestion is --popularity-discount 0, the default: it has the best "
    )


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (0.0, "it does not say which is best"),
        (None, "no validation pair is of an item"),
    ],
)
def test_a_tail_without_hits_chooses_nothing(tail, expected):
    of = of_seed(0.0)
    for figures in of.validation:
        figures["tail recall@50"] = tail
    found = trade_off.summary([of], parts(object()))
    assert found["chosen"] == 0.0
    told = trade_off.told(found)
    assert "--popularity-discount 0, the default" in told and expected in told
