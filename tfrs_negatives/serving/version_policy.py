"""Which versions of a model are served, and what else they are called."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping


@dataclasses.dataclass(frozen=True)
class VersionPolicy:
    """The highest versions, or those that are named; and versions with labels.

    Attributes:
      latest: How many of the highest versions are served.
      specific: Numbers of those that are served instead, such as one that is pinned.
      labels: Dict from label to number. A version with a label is served too, as long
        as it is there.

    Raises:
      ValueError: A number or a label out of range.

    Example:
      >>> policy = tn.serving.VersionPolicy(latest=2, labels={"stable": 7})
      >>> policy.named
      {7}
    """

    latest: int = 1
    specific: Collection[int] = ()
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.latest < 1:
            raise ValueError(f"`latest` must be at least 1, received {self.latest}.")
        for number in (*self.specific, *self.labels.values()):
            if not 0 <= number < 2**63:
                raise ValueError(
                    "Versions are numbers from 0 to 2^63 - 1, received "
                    f"{str(number)[:40]}."
                )
        for label in self.labels:
            if not label or len(label) > 100 or set(label) & set("/:"):
                raise ValueError(
                    "Labels are names of up to 100 characters without / and :, "
                    f"received {label[:110]!r}."
                )

    @property
    def named(self) -> set[int]:
        """Numbers that the policy asks for, whatever else is there."""
        return {*self.specific, *self.labels.values()}
