"""Asking all shards at once, and going on without those that do not answer."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence

import numpy as np

from tfrs_negatives.index.shards.merged_answers import merged
from tfrs_negatives.index.shards.shard import (
    OpenShard,
    Shard,
    ShardDescription,
    ShardError,
)

# A shard that has missed so many queries in a row is not asked for a while: one that
# is late would make all others wait.
_MISSES, _PAUSE = 3, 1.0

# Of a search, at most as many as there are shards; searches may run side by side.
_THREADS_PER_SHARD = 32

_log = logging.getLogger(__name__)


@dataclasses.dataclass
class _Member:
    """A shard, and what is known of it."""

    name: str
    shard: OpenShard
    is_known: bool = False
    misses: int = 0
    resumes_at: float = 0.0


class ShardSearch:
    """The best of what several shards find.

    A shard that cannot be reached, fails or is late is missing from an answer, which
    says so. One that cannot be reached when this is made is found when it is there.

    Args:
      shards: At least one.
      name: The input that is the embeddings, by which shards of another model are told.
      seconds: How long a query waits for shards.

    Attributes:
      description: What all shards take and return.

    Raises:
      ValueError: A shard is of another model, or not like the others.
      OSError: None can be reached.
    """

    def __init__(self, shards: Sequence[Shard], name: str, seconds: float) -> None:
        names = [shard.name for shard in shards]
        twice = [each for each in names if names.count(each) > 1]
        if not shards or twice or not 0 < seconds < float("inf"):
            received = f"{twice[0]} twice" if twice else f"{len(shards)} shards"
            raise ValueError(
                "Expected at least one shard, none of them twice, and a number of "
                f"seconds above 0 to wait, received {received} and {seconds!r} seconds."
            )
        self._seconds = seconds
        self._members = [_Member(shard.name, shard.open(name)) for shard in shards]
        self._pool = concurrent.futures.ThreadPoolExecutor(
            _THREADS_PER_SHARD * len(shards), "shards"
        )
        try:
            self.description = self._first_description()
        except BaseException:
            self.close()
            raise

    @property
    def num_shards(self) -> int:
        """How many there are."""
        return len(self._members)

    @property
    def num_silent(self) -> int:
        """How many have not answered when they were asked last."""
        return sum(member.misses > 0 for member in self._members)

    def search(
        self, signature: str, inputs: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], list[int]]:
        """Asks all shards.

        Args:
          signature: Of the shards.
          inputs: Dict from name to array, "k" among them.

        Returns:
          The answer, and the numbers of the shards that it lacks.

        Raises:
          ConnectionError: All are missing.
          ShardError: One has become a shard of another model.
          ValueError: They refuse the request.
        """
        asked = {
            self._pool.submit(self._ask, member, signature, inputs): number
            for number, member in enumerate(self._members)
            if not self._rests(member)
        }
        done, late = concurrent.futures.wait(asked, self._seconds)
        answers: dict[int, dict[str, np.ndarray]] = {}
        reasons = {}
        # In order, so that the first error is the same whichever shard was fastest.
        for future in sorted(done, key=asked.__getitem__):
            number = asked[future]
            member = self._members[number]
            try:
                answers[number] = future.result()
            except OSError as error:
                reasons[number] = str(error)
                self._missed(member, str(error))
                continue
            except ShardError as error:
                raise _of_another(member.name, error) from None
            if member.misses:
                _log.warning("shard %s answers again", member.name)
                member.misses = 0
        for future in late:
            future.cancel()
            reasons[asked[future]] = f"no answer within {self._seconds:g} seconds"
            self._missed(self._members[asked[future]], reasons[asked[future]])
        if not answers:
            reason = next(iter(reasons.values()), "they did not answer before either")
            raise ConnectionError(
                f"None of the {self.num_shards} shards answers ({reason}). Start them, "
                "or give them more time."
            )
        missing = sorted(set(range(self.num_shards)) - set(answers))
        found = [answers[number] for number in sorted(answers)]
        return merged(found, int(inputs["k"])), missing

    def close(self) -> None:
        """Ends the threads and connections."""
        self._pool.shutdown(cancel_futures=True)
        for member in self._members:
            member.shard.close()

    def _first_description(self) -> ShardDescription:
        """That of all shards that can be reached, which agree."""
        futures = [
            self._pool.submit(member.shard.describe, self._seconds)
            for member in self._members
        ]
        first: ShardDescription | None = None
        reasons = []
        for member, future in zip(self._members, futures, strict=True):
            try:
                found = future.result()
            except OSError as error:
                reasons.append(f"{member.name}: {error}")
                self._missed(member, str(error))
                continue
            except ShardError as error:
                raise ValueError(str(_of_another(member.name, error))) from None
            difference = None if first is None else first.difference(found)
            if difference is not None:
                raise ValueError(
                    f"All shards must be alike, received {member.name}, which is not: "
                    f"{difference}. Export it like the others."
                )
            first = first or found
            member.is_known = True
        if first is None:
            raise ConnectionError(
                f"Expected shards that can be reached, received {len(reasons)} that "
                f"cannot ({'; '.join(reasons)[:400]}). Start them first."
            )
        return first

    def _ask(
        self, member: _Member, signature: str, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        start = time.monotonic()
        if not member.is_known:
            found = member.shard.describe(self._seconds)
            difference = self.description.difference(found)
            if difference is not None:
                raise ShardError(difference)
            member.is_known = True
        left = self._seconds - (time.monotonic() - start)
        return member.shard.ask(signature, inputs, max(left, 0.001))

    def _rests(self, member: _Member) -> bool:
        return member.misses >= _MISSES and time.monotonic() < member.resumes_at

    def _missed(self, member: _Member, reason: str) -> None:
        if not member.misses:
            _log.warning("shard %s does not answer: %s", member.name, reason)
        member.misses += 1
        member.resumes_at = time.monotonic() + _PAUSE


def _of_another(name: str, error: ShardError) -> ShardError:
    return ShardError(
        f"The shard {name} is not one of this model: {error}. Export it with "
        "`shard_query` of the query tower that is served, or serve the tower that it "
        "was exported for."
    )
