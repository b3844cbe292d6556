"""What turns say of the larger table."""

import argparse

from benchmarks.scale import train


def test_rates_and_the_ratio_of_neighbouring_turns():
    answers = {
        10: [{"wall": 2, "peak_mib": 5}, {"wall": 4, "peak_mib": 6}] * 2,
        100: [{"wall": 4, "peak_mib": 7}, {"wall": 4, "peak_mib": 9}] * 2,
    }
    facts = {10: {"rows": 10, "seconds_to_read": 1.6, "resident_mib": 3}, 100: {}}
    options = argparse.Namespace(steps=8, batch=3, negatives=2, width=4)
    small, large = train.rows_of_turns(facts, answers, options)
    assert small["rows_a_second"] == round((24 / 2 + 24 / 4) / 2)
    assert large["rows_a_second"] == 6
    assert (small["ratio"], large["ratio"]) == (1, (0.5 + 1) / 2)
    assert (small["peak_mib"], large["peak_mib"]) == (6, 9)
    assert (small["rows"], small["seconds_to_read"]) == (10, 2)
    assert set(small) <= set(train.FIELDS)
