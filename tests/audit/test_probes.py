"""Statistics of scores against loops, in float64 and without logarithms."""

import numpy as np
import pytest

from tfrs_negatives.audit import probes as probes_module
from tfrs_negatives.audit.popularity_skew import head_items
from tfrs_negatives.audit.positive_pairs import PositivePairs
from tfrs_negatives.audit.probes import Probes

UNKNOWN_ITEM = 3
TEMPERATURE = 0.5


@pytest.fixture(scope="module")
def case(make_table, make_model):
    """A table, a model that does not know one item, and probes of it."""
    table = make_table(num_rows=150, num_items=40, num_users=9)
    model = make_model(table, unknown_item=UNKNOWN_ITEM)
    known = PositivePairs(table.user, table.item, table.num_users, table.num_items)
    tail = ~head_items(np.bincount(table.item, minlength=table.num_items))
    rng = np.random.default_rng(5)
    return table, model, tail, Probes(model, table, known, tail, TEMPERATURE, 30, rng)


def held_out(table):
    """Each user's last fifth of rows by time."""
    last = set()
    for user in range(table.num_users):
        rows = np.flatnonzero(table.user == user)
        rows = rows[np.argsort(table.time[rows], kind="stable")]
        last |= set(rows[len(rows) - max(1, int(0.2 * len(rows))) :].tolist())
    return last


def likes(table, rows):
    return {(int(table.user[r]), int(table.item[r])) for r in rows}


def weight(table, model, row, item):
    user, own = table.user[row], table.item[row]
    scores = model.matrix.astype(np.float64)
    return np.exp((scores[user, item] - scores[user, own]) / TEMPERATURE)


def test_probes_are_usable_rows(case):
    table, _, _, probes = case
    last = held_out(table)
    usable = [r for r in range(150) if r not in last and table.item[r] != UNKNOWN_ITEM]
    assert probes.num_usable == len(usable)
    assert len(probes.rows) == 30 == len(set(probes.rows.tolist()) & set(usable))


def test_columns_of_batches_equal_loops(case):
    table, model, _, probes = case
    order = np.random.default_rng(0).permutation(150)
    found = probes.in_batch(order, 40)  # The last batch has 30 rows.
    everything, earlier = (
        likes(table, range(150)),
        likes(table, set(range(150)) - held_out(table)),
    )
    place = {int(row): at for at, row in enumerate(order)}
    totals = {level: [0, 0] for level in found}
    for number, row in enumerate(probes.rows):
        first = place[row] - place[row] % 40
        left = {level: [] for level in found}
        for other in order[first : first + 40]:
            item = int(table.item[other])
            if other == row or item == UNKNOWN_ITEM:
                continue
            hit = item == table.item[row]
            key = (
                hit
                or table.user[other] == table.user[row]
                or table.request[other] == table.request[row]
            )
            known = key or (int(table.user[row]), item) in earlier
            dropped = dict(zip(found, (False, hit, key, known), strict=True))
            for level, gone in dropped.items():
                if not gone:
                    left[level].append(item)
                    totals[level][0] += (int(table.user[row]), item) in everything
                    totals[level][1] += 1
        for level, items in left.items():
            assert found[level]["columns"][number] == len(items)
            logarithm = found[level]["log_mean_weight"][number]
            mean = np.mean([weight(table, model, row, item) for item in items])
            assert logarithm == pytest.approx(np.log(mean), abs=1e-4)
    for level, (false, columns) in totals.items():
        rate = found[level]["false_negative_rate"]
        assert rate == pytest.approx(false / columns)
    assert 0 < totals["known_positives"][0] < totals["keys"][0]


def catalogue(table, row, earlier, unknown_only):
    """The items that may be drawn for a row."""
    user = int(table.user[row])
    return [
        item
        for item in range(table.num_items)
        if item not in (UNKNOWN_ITEM, table.item[row])
        and not (unknown_only and (user, item) in earlier)
    ]


@pytest.mark.parametrize("name", ["all", "unknown"])
def test_uniform_and_bands_equal_loops(case, name, monkeypatch):
    table, model, tail, probes = case
    monkeypatch.setattr(probes_module, "BAND_EDGES", (0, 2, 7, 500))
    everything, earlier = (
        likes(table, range(150)),
        likes(table, set(range(150)) - held_out(table)),
    )
    uniform, hard = probes.uniform()[name], probes.hard()
    depth = min(len(catalogue(table, r, earlier, True)) for r in probes.rows)
    assert hard["edges"] == [0, 2, 7, depth]
    bands = {band: [] for band in zip(hard["edges"], hard["edges"][1:], strict=False)}
    drawn = []
    for number, row in enumerate(probes.rows):
        user = int(table.user[row])
        items = catalogue(table, row, earlier, name == "unknown")
        mean = np.mean([weight(table, model, row, item) for item in items])
        assert uniform["log_mean_weight"][number] == pytest.approx(
            np.log(mean), abs=1e-4
        )
        drawn += [(user, item) in everything for item in items]
        ranked = sorted(items, key=lambda item: -model.matrix[user, item])
        for index, (low, high) in enumerate(bands):
            some = ranked[low:high]
            mean = np.mean([weight(table, model, row, item) for item in some])
            logarithm = hard[name][index]["log_mean_weight"][number]
            assert logarithm == pytest.approx(np.log(mean), abs=1e-4)
            bands[low, high] += [
                ((user, item) in everything, tail[item]) for item in some
            ]
    assert uniform["false_negative_rate"] == pytest.approx(np.mean(drawn))
    for index, pairs in enumerate(bands.values()):
        false, in_tail = np.mean(pairs, axis=0)
        assert hard[name][index]["false_negative_rate"] == pytest.approx(false)
        assert hard[name][index]["tail_share"] == pytest.approx(in_tail)


def test_models_that_know_no_row(make_table, make_model):
    table = make_table()
    model = make_model(table)
    known = PositivePairs(table.user, table.item, table.num_users, table.num_items)
    tail = np.zeros(table.num_items, bool)
    model.knows_user[:] = False
    with pytest.raises(ValueError, match="must know a row of a table"):
        Probes(model, table, known, tail, 1.0, 9, np.random.default_rng(0))
    model = make_model(table)
    model.matrix[0, 0] = np.inf
    with pytest.raises(ValueError, match="finite"):
        Probes(model, table, known, tail, 1.0, 99, np.random.default_rng(0))
