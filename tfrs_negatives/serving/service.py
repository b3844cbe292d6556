"""What both protocols ask: predictions, metadata and state of one model."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from tfrs_negatives._exports import unknown_option
from tfrs_negatives.serving.batching import Batcher
from tfrs_negatives.serving.bearer_tokens import AdminToken, QueryToken
from tfrs_negatives.serving.bytes_in_flight import BytesInFlight
from tfrs_negatives.serving.item_changes import change_items
from tfrs_negatives.serving.model_version import ModelVersion
from tfrs_negatives.serving.model_versions import ModelVersions
from tfrs_negatives.serving.monitoring import Monitoring
from tfrs_negatives.serving.request_error import RequestError
from tfrs_negatives.serving.server_limits import Limits
from tfrs_negatives.serving.update_folder import UpdateFolder
from tfrs_negatives.serving.version_policy import VersionPolicy
from tfrs_negatives.types import PathLike

_T = TypeVar("_T")

# Bytes, or answers, that take the event loop well below a millisecond.
SMALL = 2**12


class Service:
    """A model that is served: its versions, limits and threads.

    Args:
      path: An export, or a folder of versions of it.
      name: What clients call the model.
      limits: `Limits`.
      versions: `VersionPolicy`; None: the highest version.
      logs_answers: Whether each answer is logged.
      admin_token: `AdminToken`, by which clients may change items that change. None:
        they may not, and another process may write these.
      query_token: `QueryToken`, which clients then must name who ask for predictions or
        signatures; states, health and counts need none.
      shards: Of a query tower, where its items are: addresses or `RemoteShard`s; see
        `load_retrieval`.
      shard_seconds: How long a query waits for them.
      updates: A folder whose files change items that change; see `UpdateFolder`.

    Raises:
      ValueError, ImportError: No version there can be loaded, or one that `versions`
        names; two tokens that are the same.

    Example:
      >>> import tempfile
      >>> users = tf.keras.layers.StringLookup(vocabulary=["ann", "bob"])
      >>> tower = tf.keras.Sequential([users, tf.keras.layers.Embedding(3, 4)])
      >>> index = tn.index.BruteForce(k=2).index(tf.eye(4))
      >>> user = tf.TensorSpec([None], tf.string, name="user")
      >>> path = tempfile.mkdtemp() + "/model"
      >>> _ = tn.index.export_retrieval(path, tower, index, query_signature=user)
      >>> service = tn.serving.Service(path, name="retrieval")
      >>> service.states()
      [(1, 'AVAILABLE', '')]
      >>> service.close()
    """

    def __init__(
        self,
        path: PathLike,
        name: str = "retrieval",
        limits: Limits | None = None,
        versions: VersionPolicy | None = None,
        logs_answers: bool = False,
        admin_token: AdminToken | None = None,
        query_token: QueryToken | None = None,
        shards: Sequence[Any] = (),
        shard_seconds: float = 1.0,
        updates: PathLike | None = None,
    ) -> None:
        if admin_token and query_token and admin_token.is_same(query_token):
            raise ValueError(
                "The admin token and the query token are the same, so whoever may ask "
                "could change items. Make another."
            )
        self.name = name
        self.admin_token, self.query_token = admin_token, query_token
        self.limits = limits or Limits()
        self.versions = ModelVersions(
            path,
            self.limits.max_batch,
            versions,
            writable=admin_token is not None or updates is not None,
            shards=shards,
            shard_seconds=shard_seconds,
        )
        self._updates: UpdateFolder | None = None
        if updates is not None:
            try:
                self._updates = UpdateFolder(
                    updates, lambda: self.versions.current.live_model()
                )
                self.versions.current.live_model()
            except (RequestError, ValueError) as error:
                self.versions.close_items()
                raise ValueError(str(error)) from error
        self.monitoring = Monitoring(name, logs_answers)
        self.batcher = Batcher(self.limits)
        self.bytes_in_flight = BytesInFlight(self.limits.max_bytes_in_flight)
        # Of two, a large message leaves one for the others.
        self._messages = concurrent.futures.ThreadPoolExecutor(2, "messages")
        # Those that wait for the disk share a flush.
        self._changes = concurrent.futures.ThreadPoolExecutor(8, "changes")
        self._num_changes = 0

    def version(
        self, name: str, number: int | None = None, label: str | None = None
    ) -> ModelVersion:
        """The version that answers.

        Args:
          name: The model that the client asks for.
          number: The version, or None for the highest that is served.
          label: The label of a version, instead of its number.

        Raises:
          RequestError: Another model or version is asked for.
        """
        number = self.number(name, number, label)
        if number is None:
            return self.versions.current
        served = self.versions.served
        if number not in served:
            several = len(served) > 1
            raise RequestError(
                f"Version{'s' if several else ''} {', '.join(map(str, sorted(served)))}"
                f" of {self.name!r} {'are' if several else 'is'} served, received a "
                f"request for version {number}. Leave the version out.",
                "NOT_FOUND",
            )
        return served[number]

    def number(
        self, name: str, number: int | None = None, label: str | None = None
    ) -> int | None:
        """The number that a client asks for, by itself or by a label; or None.

        Raises:
          RequestError: Another model, or a label that no version has.
        """
        self.check_name(name)
        if label is None:
            return number
        labels = self.versions.policy.labels
        if label not in labels:
            known = ", ".join(sorted(labels)) or "none"
            raise RequestError(
                f"Expected a label of {self.name!r} ({known}), received {label!r}.",
                "NOT_FOUND",
            )
        return labels[label]

    def check_name(self, name: str) -> None:
        """Raises `RequestError` for the name of another model."""
        if name != self.name:
            raise RequestError(
                f"The model {self.name!r} is served, received a request for {name!r}.",
                "NOT_FOUND",
            )

    def states(self, number: int | None = None) -> list[tuple[int, str, str]]:
        """Number, state and message of each version, or of one; see `ModelVersions`.

        Raises:
          RequestError: There is no such version.
        """
        states = self.versions.states()
        if number is not None and number not in states:
            known = ", ".join(map(str, sorted(states)))
            raise RequestError(
                f"{self.name!r} has the versions {known}, received {number}.",
                "NOT_FOUND",
            )
        wanted = sorted(states) if number is None else [number]
        return [(number, *states[number]) for number in wanted]

    async def convert(
        self, size: int, function: Callable[..., _T], *arguments: Any
    ) -> _T:
        """Reads or writes a message: off the event loop, unless it is small.

        Args:
          size: Bytes of a request, or values of an answer.
          function: What to call.
          *arguments: Its arguments.

        Returns:
          What `function` returns.
        """
        if size <= SMALL:
            return function(*arguments)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._messages, function, *arguments)

    async def predict(
        self, version: ModelVersion, signature: str, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Answers, together with other requests of the moment.

        Args:
          version: What `version` returned.
          signature: Name of the signature.
          inputs: Dict from name to array; those with a default may be missing.

        Returns:
          Dict from name to array.

        Raises:
          RequestError: The request does not fit the signature or the limits, or fails.
        """
        specs = version.signature_inputs(signature)
        defaults = version.defaults[signature]
        inputs = {**defaults, **inputs}
        check_names(specs, inputs)
        rows = _check_inputs(specs, inputs, defaults)
        inputs = {
            # One for all, which is told apart from one a row before requests merge.
            name: np.broadcast_to(value, [rows, *value.shape[1:]])
            if name in defaults and specs[name].shape.rank
            else value
            for name, value in inputs.items()
        }
        k = 1
        if "k" in inputs:
            k = int(inputs["k"])
            if not 1 <= k <= version.max_k:
                raise RequestError(
                    f"k must be from 1 to the number of candidates, {version.max_k}, "
                    f"received {k}."
                )
        self.limits.check_rows(rows, k)
        if "exclusions" in inputs:
            self.limits.check_exclusions(rows, inputs["exclusions"].shape[1])
        filters: tuple[bytes, ...] = ()
        if "where" in inputs:
            # Rows of one filter are searched together.
            filters = tuple(sorted(set(inputs["where"].tolist())))
            self.limits.check_filters(len(filters))
        kind = None
        if version.merges(signature):
            alike = [
                value.item() if value.ndim == 0 else value.shape[1:]
                for _, value in sorted(inputs.items())
            ]
            kind = (version, signature, filters, *alike)
        run = functools.partial(version.run, signature)
        return await self.batcher.submit(run, inputs, rows, kind)

    async def change(
        self, version: ModelVersion, kind: str, body: bytes
    ) -> dict[str, int]:
        """Changes items; see `change_items`. Queries do not wait for it.

        Raises:
          RequestError: Too many changes wait already, or the change is wrong or fails.
        """
        if self._num_changes >= self.limits.max_waiting:
            raise RequestError(
                f"{self._num_changes} changes wait already. Try again later.",
                "UNAVAILABLE",
            )
        self._num_changes += 1
        try:
            loop = asyncio.get_running_loop()
            # So that what the thread logs has the id of the request.
            run = contextvars.copy_context().run
            return await loop.run_in_executor(
                self._changes, run, change_items, version, kind, body, self.limits
            )
        finally:
            self._num_changes -= 1

    def watch(self, seconds: float) -> None:
        """Starts to look for versions, items and updates every so many seconds."""
        self.versions.watch(seconds)
        if self._updates is not None:
            self._updates.watch(seconds)

    def close(self) -> None:
        """Ends the threads, when no request is left."""
        if self._updates is not None:
            self._updates.stop()
        self.versions.stop()
        self.batcher.close()
        self._messages.shutdown()
        self._changes.shutdown()
        self.versions.close_items()


def check_names(
    specs: Collection[str], names: Collection[str], optional: Collection[str] = ()
) -> None:
    """Raises `RequestError` unless the names are those of the signature's inputs.

    Args:
      specs: The inputs, a dict from name.
      names: Those of a request.
      optional: Which of the inputs may be missing.
    """
    # A message can name hundreds of thousands, of which a few show what is wrong.
    first = list(itertools.islice(names, len(specs) + 9))
    if set(specs) != set(first) | set(optional):
        may = f" ({', '.join(sorted(optional))} may be left out)" if optional else ""
        raise RequestError(
            f"Expected the inputs {', '.join(sorted(specs))}{may}, received "
            f"{', '.join(sorted(first)) or 'none'}.{unknown_option(names, specs)}"
        )


def _check_inputs(
    specs: Mapping[str, tf.TensorSpec],
    inputs: Mapping[str, np.ndarray],
    optional: Collection[str],
) -> int:
    """Compares arrays with the signature; returns the number of rows.

    An input that may be left out may also be one for all rows, of which there is one.
    """
    rows = None
    # Those that may be left out last, as they may not tell the number of rows.
    for name in sorted(specs, key=lambda name: name in optional):
        spec, value = specs[name], inputs[name]
        if not spec.shape.is_compatible_with(value.shape):
            one_a_row = name in optional and spec.shape.rank
            hint = " Send one a row, or one for all, in a list." if one_a_row else ""
            raise RequestError(
                f"{name!r} must have shape {spec.shape}, received {value.shape}.{hint}"
            )
        if value.ndim and not (name in optional and value.shape[0] == 1):
            rows = value.shape[0] if rows is None else rows
            if value.shape[0] != rows:
                raise RequestError(
                    f"All inputs must have the same number of rows, received {rows} "
                    f"and {value.shape[0]} ({name!r})."
                )
    if not rows:
        raise RequestError("A request must have at least one row, received none.")
    return rows
