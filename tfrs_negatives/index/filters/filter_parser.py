"""From the tokens of a filter to its tree, by recursive descent.

expression  = all {"or" all}
all         = negation {"and" negation}
negation    = "not" negation | "(" expression ")" | comparison
comparison  = name operator value
            | value operator name
            | name ["not"] "in" "[" value {"," value} "]"
            | value ["not"] "in" name
            | name "is" ["not"] "missing"
operator    = "==" | "!=" | "<" | "<=" | ">" | ">="
value       = number | text
"""

from __future__ import annotations

from typing import cast

from tfrs_negatives.index.filters.filter_error import filter_error
from tfrs_negatives.index.filters.filter_tokens import Token, tokens_of
from tfrs_negatives.index.filters.filter_tree import (
    AnyOf,
    Comparison,
    Contains,
    Every,
    Expression,
    Leaf,
    Missing,
    Negation,
    OneOf,
    Operator,
    Value,
)

#: How deep parentheses and "not" may be nested.
MAX_DEPTH = 32

#: How many comparisons a filter may have. Each is a pass over all items.
MAX_COMPARISONS = 64

_MIRRORED: dict[str, Operator] = {
    "==": "==",
    "!=": "!=",
    "<": ">",
    "<=": ">=",
    ">": "<",
    ">=": "<=",
}


def parsed(where: str) -> Expression:
    """The tree of a filter.

    Args:
      where: The filter, such as `'category == "shoes" and price < 50'`.

    Raises:
      ValueError: It is no filter, too long or too deep, or compares too often.
    """
    return _FilterParser(where).whole()


class _FilterParser:
    """Reads the tokens of one filter from left to right."""

    def __init__(self, where: str) -> None:
        self._text = where
        self._tokens = tokens_of(where)
        self._next = 0
        self._comparisons = 0

    def whole(self) -> Expression:
        expression = self._expression(0)
        token = self._token()
        if token.kind != "end":
            raise self._error(token, "expected and, or, or the end.")
        return expression

    def _expression(self, depth: int) -> Expression:
        parts = [self._all(depth)]
        while self._took("keyword", "or"):
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _all(self, depth: int) -> Expression:
        parts = [self._negation(depth)]
        while self._took("keyword", "and"):
            parts.append(self._negation(depth))
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def _negation(self, depth: int) -> Expression:
        token = self._token()
        if depth > MAX_DEPTH:
            raise self._error(
                token,
                f"expected at most {MAX_DEPTH} nested parentheses and nots. Write it "
                "flatter.",
            )
        if self._took("keyword", "not"):
            return Negation(self._negation(depth + 1))
        if self._took("sign", "("):
            expression = self._expression(depth + 1)
            self._expect("sign", ")", "the parenthesis that closes")
            return expression
        self._comparisons += 1
        if self._comparisons > MAX_COMPARISONS:
            raise self._error(
                token,
                f"expected at most {MAX_COMPARISONS} comparisons. Write a list: "
                "category in [...].",
            )
        return self._comparison()

    def _comparison(self) -> Leaf:
        token = self._take()
        if token.kind == "name":
            return self._of_attribute(str(token.value), token.place)
        if token.kind in ("number", "text"):
            return self._of_value(token)
        raise self._error(
            token,
            'expected a comparison such as price < 50 or "red" in colours.',
        )

    def _of_attribute(self, name: str, place: int) -> Leaf:
        if self._took("keyword", "is"):
            negated = self._took("keyword", "not")
            self._expect("keyword", "missing", "is missing or is not missing")
            return Missing(name, negated, place)
        negated = self._took("keyword", "not")
        if negated or self._at("keyword", "in"):
            self._expect("keyword", "in", "in behind not")
            return OneOf(name, self._list(), negated, place)
        return Comparison(name, self._operator(), self._value(), place)

    def _of_value(self, token: Token) -> Leaf:
        negated = self._took("keyword", "not")
        if negated or self._at("keyword", "in"):
            self._expect("keyword", "in", "in behind not")
            return Contains(self._name(), token.value, negated, token.place)
        operator = _MIRRORED[self._operator()]
        return Comparison(self._name(), operator, token.value, token.place)

    def _operator(self) -> Operator:
        token = self._take()
        if token.kind != "sign" or token.value not in _MIRRORED:
            raise self._error(
                token, "expected one of ==, !=, <, <=, >, >=, in, not in, is."
            )
        return cast(Operator, token.value)

    def _name(self) -> str:
        token = self._take()
        if token.kind != "name":
            raise self._error(token, "expected the name of an attribute.")
        return str(token.value)

    def _value(self) -> Value:
        token = self._take()
        if token.kind not in ("number", "text"):
            raise self._error(token, "expected a number or a text in quotes.")
        return token.value

    def _list(self) -> tuple[Value, ...]:
        self._expect("sign", "[", "a list such as [1, 2]")
        values = [self._value()]
        while self._took("sign", ","):
            values.append(self._value())
        self._expect("sign", "]", "a comma or the bracket that closes")
        return tuple(values)

    def _token(self) -> Token:
        return self._tokens[self._next]

    def _take(self) -> Token:
        token = self._token()
        # The end stays where it is.
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _at(self, kind: str, value: str) -> bool:
        token = self._token()
        return token.kind == kind and token.value == value

    def _took(self, kind: str, value: str) -> bool:
        if not self._at(kind, value):
            return False
        self._next += 1
        return True

    def _expect(self, kind: str, value: str, what: str) -> None:
        if not self._took(kind, value):
            raise self._error(self._token(), f"expected {what}.")

    def _error(self, token: Token, problem: str) -> ValueError:
        return filter_error(self._text, token.place, problem)
