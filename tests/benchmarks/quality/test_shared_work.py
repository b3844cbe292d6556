"""What runs of the quality benchmark compute once."""

import numpy as np

from benchmarks.common import costs
from benchmarks.quality import shared_work


def test_what_runs_share_is_computed_once_and_charged_to_each(tmp_path):
    source, calls = tmp_path / "how.py", []
    source.write_text("first")

    def compute():
        calls.append(sum(range(10**6)))  # Takes some time.
        return {"rows": np.arange(3), "halves": np.array([0.5])}

    def once(array=(1, 2), **options):
        found = shared_work.once(compute, [source], [np.array(array)], **options)
        assert sorted(found) == ["halves", "rows"]
        np.testing.assert_array_equal(found["rows"], [0, 1, 2])
        return shared_work.charges()

    assert once(l2=1.0) == []
    (charge,) = once(l2=1.0)
    assert len(calls) == 1 and charge["cpu_seconds"] > 0 and charge["peak_mib"] > 1
    assert shared_work.charges() == []
    clock = costs.Clock()
    clock.charge({"seconds": 100.0, "cpu_seconds": 90.0, "peak_mib": 1e6})
    clock.charge({"seconds": 10.0, "cpu_seconds": 9.0, "peak_mib": 1.0})
    spent = clock.read()
    assert 110 <= spent["seconds"] < 120 and 99 <= spent["cpu_seconds"] < 109
    assert spent["peak_mib"] == 1e6
    # Other options, arrays or ways are other work.
    assert once(l2=2.0) == [] and once((1, 3), l2=1.0) == []
    source.write_text("second")
    assert once(l2=1.0) == [] and len(calls) == 4
