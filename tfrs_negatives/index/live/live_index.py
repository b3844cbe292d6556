"""An index that changes while it serves."""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrs_negatives.index.filters import checked_filter
from tfrs_negatives.index.live import live_search
from tfrs_negatives.index.live.approximate_rows import approximate_or_none
from tfrs_negatives.index.live.change_log import ChangeLog
from tfrs_negatives.index.live.group_commit import GroupCommit
from tfrs_negatives.index.live.live_answer import LiveAnswer
from tfrs_negatives.index.live.live_changes import Change, Delete
from tfrs_negatives.index.live.live_creation import checked_settings, write_first
from tfrs_negatives.index.live.live_folder import (
    read_manifest,
    remove_others,
    write_snapshot,
)
from tfrs_negatives.index.live.live_loading import LoadedIndex, load
from tfrs_negatives.index.live.live_schema import LiveSchema
from tfrs_negatives.index.live.live_table import LiveState, LiveTable
from tfrs_negatives.index.live.live_values import (
    checked_exclusions,
    checked_ids,
    checked_matrix,
)
from tfrs_negatives.index.live.low_priority import at_low_priority
from tfrs_negatives.index.live.writer_lock import WriterLock
from tfrs_negatives.types import PathLike

if TYPE_CHECKING:
    from typing_extensions import Self

# Below so many changes nothing is compacted by itself.
_FEWEST_CHANGES = 1_000


class LiveIndex:
    """Items that can be added, replaced and deleted while queries are answered.

    It lives in a directory and in memory. What `upsert` and `delete` have returned
    from is on the disk, and what the next search finds. One process at a time
    may write; any number may read. All methods may be called from many threads, and a
    search waits for nothing: it sees the items as they were at one moment.

    Up to `approximate_from` items, and where the package `scann` is not installed,
    every item is scored, and answers are exact. Beyond that, ScaNN searches the items
    that there were at the last compaction, and those that are newer are scored
    exactly; what was replaced or deleted since is left out. ScaNN's searcher for NumPy
    is used, which is not tied to a version of TensorFlow: this class needs none.

    Make one with `create`, or open one with `open`.

    Reference:
      * Guo et al., "Accelerating large-scale inference with anisotropic vector
        quantization", ICML 2020.

    Example:
      >>> import tempfile
      >>> index = tn.index.LiveIndex.create(
      ...     tempfile.mkdtemp(),
      ...     ["lamp", "desk"],
      ...     np.array([[1.0, 0.0], [0.0, 1.0]]),
      ...     attributes={"price": [20, 90], "rooms": [["hall"], ["study"]]},
      ... )
      >>> index.upsert(
      ...     ["sofa"], [[1.0, 1.0]], attributes={"price": [400], "rooms": [["hall"]]}
      ... )
      1
      >>> index.search([[1.0, 0.5]], k=2).ids.tolist()
      [['sofa', 'lamp']]
      >>> index.search([[1.0, 0.5]], k=2, where="price < 100").ids.tolist()
      [['lamp', 'desk']]
      >>> index.delete(["lamp"])
      1
      >>> index.close()
    """

    def __init__(
        self, folder: str, loaded: LoadedIndex, lock: WriterLock | None, automatic: bool
    ) -> None:
        self._folder, self._lock, self._automatic = folder, lock, automatic
        self._loaded: LoadedIndex
        self._table: LiveTable
        self._state: LiveState
        # How many rows the snapshot had, and which change is its last.
        self._num_at_snapshot: int
        self._snapshot_at: int
        # How many items have changed since, and had when it was last compacted in vain.
        self._num_changed: int
        self._tried_at = 0
        self._index_id = loaded.manifest.index_id
        self._settings = loaded.manifest.settings
        self._schema = loaded.manifest.schema
        self._take(loaded)
        self._commits: GroupCommit[Change, int] = GroupCommit(self._commit)
        self._compaction_lock = threading.Lock()
        self._compaction: threading.Thread | None = None
        self._is_closed, self._is_read_only = False, lock is None
        self._log: ChangeLog | None = None
        if lock is not None:
            self._log = ChangeLog(loaded.log_path, loaded.log.end)
        # Filters repeat, and are read and checked once.
        self._filter = functools.lru_cache(maxsize=256)(
            functools.partial(checked_filter, kinds=self._schema.attributes)
        )

    @classmethod
    def create(
        cls,
        path: PathLike,
        ids: Any,
        embeddings: Any,
        payload: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        *,
        kinds: Mapping[str, str] | None = None,
        rebuild_share: float = 0.2,
        approximate_from: int | None = 10_000,
        soar_lambda: float | None = None,
        automatic: bool = True,
    ) -> Self:
        """Makes an index of its first items, and opens it for writing.

        The directory appears whole or not at all.

        Args:
          path: A directory that is not there, or is empty.
          ids: `[N]` ids, at least one: integers or strings, none twice.
          embeddings: `[N, d]` finite numbers, which are kept as float32.
          payload: What comes with answers: columns by name, `[N]` integers, floats or
            strings.
          attributes: What filters ask for: columns by name. A category is strings, a
            number integers or floats, a date `datetime` objects, a set lists of
            strings. None is a missing value, and for a set the empty one.
          kinds: The kinds of columns whose values do not tell: "category", "number",
            "date" or "set" of attributes, "integer", "float" or "string" of payload.
            With "date", seconds since 1970 and texts of ISO 8601 are taken, too.
          rebuild_share: When to compact by itself: when as many items as this share of
            those at the last compaction, and at least 1,000, have been added, replaced
            or deleted since.
          approximate_from: From how many items on ScaNN searches. None: never.
          soar_lambda: Where it does, it keeps each item in two leaves, chosen by this
            weight (SOAR); 1 to 2 is usual. It finds more, and a query costs up to twice
            as much. None: in one leaf.
          automatic: Whether to compact by itself at all, in a thread.

        Returns:
          The index, open for writing.

        Raises:
          ValueError: Something is at `path`, or the items do not fit together.
        """
        settings = checked_settings(rebuild_share, approximate_from, soar_lambda)
        schema, items = LiveSchema.of(ids, embeddings, payload, attributes, kinds)
        write_first(path, schema, items, settings)
        return cls.open(path, automatic=automatic)

    @classmethod
    def open(
        cls, path: PathLike, *, read_only: bool = False, automatic: bool = True
    ) -> Self:
        """Opens what `create` made, with all changes since.

        A change that was being written when its process was killed is not there,
        unless it had returned. Files are compared with their checksums.

        Args:
          path: The directory.
          read_only: Whether it is only searched. Other processes may write then, and
            `refresh` brings what they wrote.
          automatic: As in `create`.

        Raises:
          ValueError: There is no index, one of a later format, one that is damaged, or
            another process writes it.
        """
        folder = os.path.realpath(os.fspath(path))
        read_manifest(folder)  # Before a lock's file is made in some other folder.
        lock = None if read_only else WriterLock(folder)
        try:
            loaded = load(folder)
            if lock is not None:
                remove_others(folder, loaded.manifest)
            return cls(folder, loaded, lock, automatic and not read_only)
        except BaseException:
            if lock is not None:
                lock.release()
            raise

    def upsert(
        self,
        ids: Any,
        embeddings: Any,
        payload: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        *,
        source: str | None = None,
    ) -> int:
        """Adds items, or replaces those that have these ids, whole.

        All of them or, after an error, none. When it returns, they are on the disk.
        Calls of several threads share the time that takes.

        Args:
          ids: `[N]` ids, none twice; at most 100,000.
          embeddings: `[N, d]`.
          payload: All payload columns, `[N]` values each.
          attributes: All attributes, `[N]` values each.
          source: A text of yours that is kept with the change: see `source`.

        Returns:
          How many of them are new.

        Raises:
          ValueError: Something does not fit the index; nothing has changed then.
          OSError: The disk is full, or fails. The index then takes no more
            changes until it is opened anew.
        """
        change = self.checked_upsert(ids, embeddings, payload, attributes)
        return self.commit(change, source)

    def delete(self, ids: Any, *, source: str | None = None) -> int:
        """Takes items away. Ids that are not there do not matter.

        Args:
          ids: `[N]` ids, none twice; at most 100,000.
          source: As of `upsert`.

        Returns:
          How many of them there were.

        Raises:
          ValueError, OSError: as `upsert`.
        """
        return self.commit(self.checked_delete(ids), source)

    def checked_upsert(
        self,
        ids: Any,
        embeddings: Any,
        payload: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Change:
        """What `upsert` would do, for `commit`; raises what it would, before it."""
        return self._schema.upsert(ids, embeddings, payload, attributes)

    def checked_delete(self, ids: Any) -> Change:
        """What `delete` would do, for `commit`; raises what it would, before it."""
        return Delete(checked_ids(ids, self._schema.id_kind))

    def commit(self, change: Change, source: str | None = None) -> int:
        """Makes a change that was checked; returns what `upsert` or `delete` would."""
        self._check_open()
        if self._lock is None:
            self._writable()
        if not change.ids:
            return 0
        return self._commits.submit(dataclasses.replace(change, source=source))

    def search(
        self,
        queries: Any,
        k: int = 10,
        where: str | None = None,
        exclusions: Sequence[Any] | None = None,
    ) -> LiveAnswer:
        """The items of highest dot product with each query.

        Args:
          queries: `[B, d]` finite numbers.
          k: How many. Where fewer items are there, or pass the filter, all of those.
          where: A filter over attributes, such as `'price < 50 and "red" in
            colours'`, or None.
          exclusions: Ids that are left out of each query's answer: B lists, of any
            length, or `[B, E]`; None: none. Those that the index lacks do not matter.
            A query that is left with fewer than the others ends in scores of -inf, by
            which alone a missing hit is known: beside them the id is -1 or "", and the
            payload 0 or "".

        Raises:
          ValueError: Queries of another shape or width, NaN or infinite ones, another
            `k`, exclusions of another kind than the ids or not of each query, or what
            is no filter for this index.
        """
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
            raise ValueError(f"`k` must be an integer of at least 1, received {k!r}.")
        expression = None
        if where is not None:
            if not isinstance(where, str):
                checked_filter(where, self._schema.attributes)  # Says what is wrong.
            expression = self._filter(where)
        queries = checked_matrix("queries", queries, self._schema.width)
        if exclusions is not None:
            exclusions = checked_exclusions(
                exclusions, len(queries), self._schema.id_kind
            )
        self._check_open()
        return live_search.answer(self._state, queries, int(k), expression, exclusions)

    def compact(self) -> None:
        """Writes a snapshot of all items, and has ScaNN learn them.

        After that the log is empty, and rows that were replaced or deleted take no
        more memory. Searches and changes go on meanwhile. It is called by itself: see
        `rebuild_share`.

        Raises:
          ValueError: The index is closed, or open for reading only.
          OSError: The snapshot cannot be written. The index is what it was.
        """
        with self._compaction_lock:
            with self._commits.lock:
                log = self._writable()
                log.check()
                before, old, source = self._state, self._table, self._source
                if before.sequence == self._snapshot_at:
                    return
                self._log = ChangeLog.create(
                    self._folder, self._index_id, before.sequence + 1
                )
                log.close()
                num_changed = self._tried_at = self._num_changed
            rows = before.alive_rows()
            arrays = old.arrays(rows)
            manifest = write_snapshot(
                self._folder,
                self._index_id,
                before.sequence,
                self._schema,
                self._settings,
                arrays,
                source,
            )
            table = LiveTable.from_arrays(self._schema, arrays)
            values = arrays["embeddings"]["values"]
            approximate = at_low_priority(lambda: self._approximate(values))
            with self._commits.lock:
                table.catch_up(old, rows, before.num_rows)
                self._table, self._num_at_snapshot = table, len(rows)
                self._snapshot_at = before.sequence
                self._num_changed -= num_changed
                self._tried_at = 0
                self._state = table.state(self._state.sequence, approximate)
            remove_others(self._folder, manifest)

    def refresh(self) -> int:
        """Brings what another process has written since this was opened for reading.

        Returns:
          How many changes came; of a new snapshot, at least as many.

        Raises:
          ValueError: The index is open for writing, closed, or damaged.
        """
        self._check_open()
        if self._lock is not None:
            raise ValueError(
                "`refresh` is for an index that is open for reading only; this one has "
                "all changes, since it makes them."
            )
        with self._commits.lock:
            before = self._state.sequence
            manifest = read_manifest(self._folder)
            if manifest.index_id != self._index_id:
                raise ValueError(
                    f"{self._folder!r} holds another index than when it was opened. "
                    "Open it anew."
                )
            if manifest.sequence == self._snapshot_at:
                try:
                    if self._loaded.follow(self._folder):
                        self._state = self._table.state(
                            self._loaded.sequence, self._state.approximate
                        )
                        self._source = self._loaded.source
                    return self._loaded.sequence - before
                except FileNotFoundError:
                    pass  # A new snapshot has come this moment.
            self._take(load(self._folder))
            return self._state.sequence - before

    def statistics(self) -> dict[str, Any]:
        """What the index holds, a dict for a log or a page.

        Returns:
          `items`; `rows` in memory, with those replaced or deleted since the last
          compaction; `changed`, how many items were added, replaced or deleted since
          then; `searched_by_scann`, how many rows ScaNN has; `sequence`, the number of
          the last change.
        """
        state = self._state
        return {
            "items": state.num_items,
            "rows": state.num_rows,
            "changed": self._num_changed,
            "searched_by_scann": state.approximate.num_rows if state.approximate else 0,
            "sequence": state.sequence,
        }

    def close(self) -> None:
        """Ends a compaction that runs, and lets another process write."""
        with self._commits.lock:
            self._is_closed = True
        if self._compaction is not None:
            self._compaction.join()
        with self._compaction_lock, self._commits.lock:
            if self._log is not None:
                self._log.close()
                self._log = None
            if self._lock is not None:
                self._lock.release()
                self._lock = None

    @property
    def is_read_only(self) -> bool:
        """Whether it was opened for reading only."""
        return self._is_read_only

    @property
    def source(self) -> str | None:
        """The `source` of the last change that had one, which is as durable as that.

        Who makes changes out of a stream passes where it is with each, and knows after
        a kill where to go on: no change is made twice, and none is left out.
        """
        return self._source

    @property
    def is_exact(self) -> bool:
        """Whether every item is scored at present, without ScaNN."""
        return self._state.approximate is None

    def __len__(self) -> int:
        return self._state.num_items

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return (
            f"LiveIndex({self._folder!r}, items={len(self)}, "
            f"width={self._schema.width})"
        )

    def _take(self, loaded: LoadedIndex) -> None:
        """Serves what was loaded."""
        self._loaded, self._table = loaded, loaded.table
        self._snapshot_at = loaded.manifest.sequence
        self._source = loaded.source
        self._num_changed = loaded.num_changed
        state = loaded.table.state(loaded.sequence)
        rows = state.alive_rows()
        if len(rows) < state.num_rows:
            arrays = loaded.table.arrays(rows)
            self._table = LiveTable.from_arrays(self._schema, arrays)
            state = self._table.state(loaded.sequence)
        self._num_at_snapshot = state.num_rows
        approximate = self._approximate(state.embeddings)
        self._loaded.table = self._table
        self._state = self._table.state(loaded.sequence, approximate)

    def _approximate(self, embeddings: np.ndarray) -> Any:
        fewest = self._settings["approximate_from"]
        if fewest is None:
            return None
        # Indexes of earlier releases have no such setting.
        soar_lambda = self._settings.get("soar_lambda")
        return approximate_or_none(embeddings, fewest, soar_lambda)

    def _commit(self, changes: Sequence[Change]) -> list[int]:
        """Writes changes, applies them and shows them, in this order."""
        log = self._writable()
        sequence = self._state.sequence
        log.append(sequence + 1, changes)
        results = []
        try:
            for change in changes:
                sequence += 1
                result, num_changed = self._table.apply(change, sequence)
                results.append(result)
                self._num_changed += num_changed
                self._source = change.source or self._source
            self._state = self._table.state(sequence, self._state.approximate)
        except BaseException as error:
            # For want of memory. What is on the disk is right, and what is here not.
            log.give_up(error)
            raise
        self._compact_if_due()
        return results

    def _compact_if_due(self) -> None:
        due = max(
            _FEWEST_CHANGES, self._settings["rebuild_share"] * self._num_at_snapshot
        )
        if self._compaction is not None and self._compaction.is_alive():
            return
        # One that failed is tried again after as many changes.
        if not self._automatic or self._num_changed - self._tried_at < due:
            return
        self._compaction = threading.Thread(
            target=self._compact_in_thread, name="compaction", daemon=True
        )
        self._compaction.start()

    def _compact_in_thread(self) -> None:
        try:
            self.compact()
        except Exception as error:
            if not self._is_closed:
                warnings.warn(
                    f"The live index at {self._folder!r} could not be compacted: "
                    f"{error}. Its changes are in the log, and it is tried again.",
                    RuntimeWarning,
                    stacklevel=1,
                )

    def _check_open(self) -> None:
        if self._is_closed:
            raise ValueError(f"The index at {self._folder!r} is closed. Open it anew.")

    def _writable(self) -> ChangeLog:
        self._check_open()
        if self._log is None:
            raise ValueError(
                f"The index at {self._folder!r} is open for reading only. Open it "
                "without read_only=True to change it."
            )
        return self._log
