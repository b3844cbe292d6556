"""How parts of a result become one."""

import pickle

import numpy as np
import pyarrow as pa
import pytest

from tfrs_negatives.pipeline.input_rows import packed, unpacked
from tfrs_negatives.pipeline.table_groups import grouped

pytestmark = pytest.mark.usefixtures("beam")


def counts_of(ids):
    return np.unique(ids, return_counts=True)


def pairs_of(ids):
    return packed(grouped(pa.table({"user": ids // 7, "item": ids})))


@pytest.mark.parametrize(
    ("name", "part_of"), [("MergeCounts", counts_of), ("MergeGroups", pairs_of)]
)
def test_what_workers_send_is_the_distinct_rows_only(name, part_of):
    # Beam sends pickled accumulators. Pickle writes the whole buffer of each of a
    # table's chunks, so what was sent grew with the square of the number of rows.
    from tfrs_negatives.pipeline import combiners

    combine = getattr(combiners, name)()
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 200_000, 300_000) for _ in range(6)]
    accumulators = []
    for some in (parts[:3], parts[3:]):
        held = combine.create_accumulator()
        for ids in some:
            held = combine.add_input(held, part_of(ids))
        accumulators.append(held)
    whole = combine.merge_accumulators(accumulators)

    of_all = np.unique(np.concatenate(parts))
    num_bytes = 2 * of_all.nbytes
    for held in accumulators:
        assert len(pickle.dumps(held)) < 2.2 * num_bytes
    assert len(pickle.dumps(whole)) < 1.1 * num_bytes
    found = combine.extract_output(pickle.loads(pickle.dumps(whole)))
    if name == "MergeCounts":
        expected = counts_of(np.concatenate(parts))
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])
    else:
        rows = unpacked(found)
        np.testing.assert_array_equal(np.sort(rows.column("item").to_numpy()), of_all)
        np.testing.assert_array_equal(
            rows.column("user").to_numpy(), rows.column("item").to_numpy() // 7
        )
