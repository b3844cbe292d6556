"""What a filter says, as a tree."""

from __future__ import annotations

import dataclasses
from typing import Literal, TypeAlias

Operator = Literal["==", "!=", "<", "<=", ">", ">="]
Value: TypeAlias = str | float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The value of an attribute against one that is written."""

    attribute: str
    operator: Operator
    value: Value
    place: int


@dataclasses.dataclass(frozen=True)
class OneOf:
    """Whether the value of an attribute is one of a list."""

    attribute: str
    values: tuple[Value, ...]
    negated: bool
    place: int


@dataclasses.dataclass(frozen=True)
class Contains:
    """Whether the set of an attribute has a value."""

    attribute: str
    value: Value
    negated: bool
    place: int


@dataclasses.dataclass(frozen=True)
class Missing:
    """Whether an item has no value of an attribute."""

    attribute: str
    negated: bool
    place: int


@dataclasses.dataclass(frozen=True)
class Negation:
    """What an expression does not say."""

    of: Expression


@dataclasses.dataclass(frozen=True)
class Every:
    """All of several expressions."""

    of: tuple[Expression, ...]


@dataclasses.dataclass(frozen=True)
class AnyOf:
    """At least one of several expressions."""

    of: tuple[Expression, ...]


Leaf: TypeAlias = Comparison | OneOf | Contains | Missing
Expression: TypeAlias = Leaf | Negation | Every | AnyOf
