"""Which rows an audit looks at, and what is known of their users."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from tfrs_negatives.audit.batch_statistics import cut
from tfrs_negatives.audit.positive_pairs import PositivePairs
from tfrs_negatives.audit.row_orders import shuffled_order, shuffled_requests
from tfrs_negatives.audit.sampled_ratios import sampled_batches
from tfrs_negatives.pipeline.audit_totals import key_columns
from tfrs_negatives.pipeline.beam_engine import import_beam
from tfrs_negatives.pipeline.input_rows import InputRows, packed, unpacked
from tfrs_negatives.pipeline.key_counts import positions_of
from tfrs_negatives.pipeline.step import Step
from tfrs_negatives.pipeline.step_folder import StepFolder
from tfrs_negatives.pipeline.table_groups import by_group, group_of, grouped

if TYPE_CHECKING:
    import apache_beam as beam

_ROWS, _REQUESTS = "_wanted_rows.parquet", "_wanted_requests.parquet"
_USERS, _ITEMS = "_wanted_users.parquet", "_wanted_items.parquet"
# Files of what is sent to one process in the end.
_FILES = 64
# An occurrence of a request's rows, beside the request's number.
_BITS = 40


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """Where the rows of the batches are that are looked at.

    Attributes:
      order: Of `row_orders.ORDERS`.
      batch_size: Rows in a batch.
      num_batches: How many batches an epoch has.
      batches: Of each batch, the rows' numbers; of "request_sorted", the requests'
        numbers, and which of their rows, as one integer.
    """

    order: str
    batch_size: int
    num_batches: int
    batches: Sequence[np.ndarray]


def plans(
    orders: Sequence[str],
    sizes: Sequence[int],
    request_rows: np.ndarray,
    max_batches: int,
    seed: int,
) -> list[BatchPlan]:
    """The batches that `audit.measure` looks at.

    Memory: 4 bytes a row for one order, and 24 bytes a request for the other.

    Args:
      orders: "shuffled", "request_sorted".
      sizes: Of batches, ascending.
      request_rows: [R] how many rows each request has.
      max_batches, seed: As `measure` has them.
    """
    num_rows = int(request_rows.sum())
    rng = np.random.default_rng([seed, 2])
    found = []
    for name in orders:
        if name == "shuffled":
            order = shuffled_order(num_rows, seed)
        else:
            request = np.argsort(shuffled_requests(len(request_rows), seed, epoch=0))
            ends = np.cumsum(request_rows[request])
        for size in sizes:
            num_batches = -(-num_rows // size)
            chosen = sampled_batches(num_batches, max_batches, rng)
            if name == "shuffled":
                batches = [rows.astype(np.int64) for rows in cut(order, size, chosen)]
            else:
                batches = []
                for number in chosen.tolist():
                    stop = min((number + 1) * size, num_rows)
                    rank = np.arange(number * size, stop)
                    place = np.searchsorted(ends, rank, side="right")
                    of = request[place]
                    within = rank - (ends[place] - request_rows[of])
                    batches.append((of << _BITS) + within)
            found.append(BatchPlan(name, size, num_batches, batches))
    return found


class SampledRows:
    """The rows of some batches, with all that is known of their users and items.

    Args:
      rows: Table of the rows, ascending by "row": keys of "user", "item" and "request",
        and the rows' "occurrence" among those of their request.
      pairs: Table of distinct pairs of keys of "user" and "item".
      request_keys: [R] keys of all requests, by number.

    Attributes:
      user, item, request: [n] positions.
      num_requests: How many requests the rows have.
      known: `PositivePairs` of these users and items.
    """

    def __init__(
        self, rows: pa.Table, pairs: pa.Table, request_keys: np.ndarray
    ) -> None:
        columns = {name: rows.column(name).to_numpy() for name in rows.column_names}
        users, self.user = np.unique(columns["user"], return_inverse=True)
        items, self.item = np.unique(columns["item"], return_inverse=True)
        requests, self.request = np.unique(columns["request"], return_inverse=True)
        self.num_requests = len(requests)
        self.known = PositivePairs(
            np.searchsorted(users, pairs.column("user").to_numpy()),
            np.searchsorted(items, pairs.column("item").to_numpy()),
            len(users),
            len(items),
        )
        self._row = columns["row"]
        order = np.argsort(request_keys)
        number = order[np.searchsorted(request_keys[order], columns["request"])]
        place = (number << _BITS) + columns["occurrence"]
        self._by_place = np.argsort(place)
        self._place = place[self._by_place]

    def batch(self, plan: BatchPlan, batch: np.ndarray) -> np.ndarray:
        """Which of the rows a batch has."""
        if plan.order == "shuffled":
            return np.searchsorted(self._row, batch)
        return self._by_place[np.searchsorted(self._place, batch)]


def sampled_rows(
    step: Step,
    rows: InputRows,
    before: Mapping[int, int],
    every: Sequence[BatchPlan],
    request_keys: np.ndarray,
    request_rows: np.ndarray,
    heavy_rows: int,
) -> SampledRows:
    """Brings the rows of the batches together, in two or three passes.

    Args:
      step: The step that is running.
      rows: Its input.
      before: How many positive rows come before each part.
      every: The batches.
      request_keys, request_rows: [R], by number.
      heavy_rows: Of a request with more rows, only those in batches are sent.
    """
    folder = step.folder
    by_row = [b for plan in every if plan.order == "shuffled" for b in plan.batches]
    places = [b for plan in every if plan.order != "shuffled" for b in plan.batches]
    wanted = np.unique(np.concatenate([np.zeros(0, np.int64), *places]))
    numbers = np.unique(wanted >> _BITS)
    is_heavy = request_rows[numbers] > heavy_rows
    if not folder.has(_REQUESTS):
        every_row = np.unique(np.concatenate([np.zeros(0, np.int64), *by_row]))
        _write_keys(folder, _ROWS, every_row)
        _write_keys(folder, _REQUESTS, np.sort(request_keys[numbers[~is_heavy]]))
    heavy = _heavy_requests(step, rows, request_keys, numbers[is_heavy], wanted)
    names = [f"_sampled/{number:02d}.parquet" for number in range(_FILES)]
    step.tell(f"brings rows of {sum(len(plan.batches) for plan in every):,} batches")
    sample = _Sample(folder, before, heavy)
    _gather(step, rows, sample.of, names)
    found = pa.concat_tables([folder.table(name) for name in names])
    found = found.sort_by("row")
    if not folder.has(_ITEMS):
        _write_keys(folder, _USERS, np.unique(found.column("user").to_numpy()))
        _write_keys(folder, _ITEMS, np.unique(found.column("item").to_numpy()))
    names = [f"_known/{number:02d}.parquet" for number in range(_FILES)]
    step.tell(f"finds what users of {len(found):,} rows have")
    _gather(step, rows, _Known(folder, before).of, names)
    pairs = pa.concat_tables([folder.table(name) for name in names])
    return SampledRows(_with_occurrence(found), pairs, request_keys)


@dataclasses.dataclass(frozen=True)
class _HeavyRequest:
    """Which rows of a request are wanted, ascending, and how many each part adds to."""

    wanted: np.ndarray
    before: Mapping[int, int]


def _heavy_requests(
    step: Step,
    rows: InputRows,
    request_keys: np.ndarray,
    numbers: np.ndarray,
    wanted: np.ndarray,
) -> dict[int, _HeavyRequest]:
    """For requests of many rows, where the wanted ones are."""
    from tfrs_negatives.pipeline.request_order import rows_of_parts

    keys = np.sort(request_keys[numbers])
    parts = rows_of_parts(step, rows, keys) if len(keys) else []
    before: dict[int, dict[int, int]] = {key: {} for key in keys.tolist()}
    held = dict.fromkeys(before, 0)
    for key, part, num in parts:
        before[key][part] = held[key]
        held[key] += num
    found = {}
    for number in numbers.tolist():
        own = wanted[(wanted >> _BITS) == number] & ((1 << _BITS) - 1)
        key = int(request_keys[number])
        found[key] = _HeavyRequest(own, before[key])
    return found


class _Sample:
    """The rows that batches have. A class, as workers get its method by pickling."""

    def __init__(
        self,
        folder: StepFolder,
        before: Mapping[int, int],
        heavy: Mapping[int, _HeavyRequest],
    ) -> None:
        self._folder, self._before, self._heavy = folder, before, heavy

    def of(self, batch: pa.Table) -> pa.Table:
        """Those of a batch, and their "occurrence" where their request is heavy."""
        keys = key_columns(batch, self._before)
        request = keys.column("request").to_numpy()
        chosen = _is_among(keys.column("row").to_numpy(), self._folder, _ROWS)
        chosen |= _is_among(request, self._folder, _REQUESTS)
        occurrence = np.full(len(keys), -1)
        for key, of_request in self._heavy.items():
            own = np.flatnonzero(request == key)
            if len(own):
                part = batch.column("part")[0].as_py()
                occurrence[own] = of_request.before[part] + np.arange(len(own))
                found = positions_of(occurrence[own], of_request.wanted)
                chosen[own] |= found >= 0
        keys = keys.append_column("occurrence", pa.array(occurrence))
        return keys.filter(pa.array(chosen))


class _Known:
    """What wanted users have of wanted items."""

    def __init__(self, folder: StepFolder, before: Mapping[int, int]) -> None:
        self._folder, self._before = folder, before

    def of(self, batch: pa.Table) -> pa.Table:
        """The pairs of a batch."""
        pairs = key_columns(batch, self._before).select(["user", "item"])
        user, item = (pairs.column(name).to_numpy() for name in pairs.column_names)
        chosen = _is_among(user, self._folder, _USERS)
        chosen &= _is_among(item, self._folder, _ITEMS)
        return pairs.filter(pa.array(chosen))


def _gather(step: Step, rows: InputRows, of_batch: Any, names: Sequence[str]) -> None:
    """Writes what workers choose of batches into files, distinct and sorted."""
    folder = step.folder
    missing = [n for n, name in enumerate(names) if not folder.has(name)]
    if not missing:
        return
    nothing = packed(of_batch(rows.no_rows()))

    def build(pipeline: beam.Pipeline) -> None:
        from tfrs_negatives.pipeline.combiners import MergeGroups

        beam = import_beam()
        none = pipeline | "All" >> beam.Create([(n, nothing) for n in missing])
        sent = rows.read(pipeline) | "Choose" >> beam.FlatMap(
            _by_file, of_batch, len(names), frozenset(missing)
        )
        _ = (
            (sent, none)
            | "Join" >> beam.Flatten()
            | "Merge" >> beam.CombinePerKey(MergeGroups())
            | "Write" >> beam.Map(_write_file, folder, names)
        )

    step.engine.run(build)


def _by_file(
    batch: pa.Table, of_batch: Any, num_files: int, missing: Collection[int]
) -> Iterator[tuple[int, bytes]]:
    chosen = grouped(of_batch(batch))
    files = group_of(chosen.column("user").to_numpy(), num_files)
    for number, some in by_group(chosen, files, missing):
        yield number, packed(some)


def _write_file(
    of_file: tuple[int, bytes], folder: StepFolder, names: Sequence[str]
) -> None:
    number, data = of_file
    table = unpacked(data)
    order = [(name, "ascending") for name in table.column_names]
    folder.write_table(names[number], table.sort_by(order))


def _with_occurrence(rows: pa.Table) -> pa.Table:
    """Rows of which each says which of its request's it is; -1: as they come."""
    request, given = (
        rows.column(name).to_numpy() for name in ("request", "occurrence")
    )
    order = np.argsort(request, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(request[order]) != 0))
    sizes = np.diff(np.append(starts, len(order)))
    found = np.empty(len(order), np.int64)
    found[order] = np.arange(len(order)) - np.repeat(starts, sizes)
    found = np.where(given >= 0, given, found)
    place = rows.schema.get_field_index("occurrence")
    return rows.set_column(place, "occurrence", pa.array(found))


def _write_keys(folder: StepFolder, name: str, keys: np.ndarray) -> None:
    folder.write_table(name, pa.table({"key": keys}))


@functools.lru_cache(maxsize=4)
def _keys(folder: StepFolder, name: str) -> np.ndarray:
    return folder.column(name, "key")


def _is_among(keys: np.ndarray, folder: StepFolder, name: str) -> np.ndarray:
    return positions_of(keys, _keys(folder, name)) >= 0
