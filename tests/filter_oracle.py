"""Random items and filters, and what passes, by loops that share nothing with the
package."""

import datetime
import json
import operator

KINDS = {"shop": "category", "price": "number", "added": "date", "tags": "set"}
TEXTS = ["red", "blue", "Größe", 'a "b"', "it's", "", "x\\y", "new\nline"]
NUMBERS = [-2.5, 0, 1, 3, 10, 1e-3]
# Seconds, and the same dates in a filter.
DATES = {
    0.0: "1970-01-01",
    86_400.0: "1970-01-02T00:00:00Z",
    1717113600.5: "2024-05-31T02:00:00.500+02:00",
}
_COMPARE = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def items(rng, size):
    """Columns of random values, some of them missing."""

    def column(choose):
        return [None if rng.random() < 0.2 else choose() for _ in range(size)]

    return {
        "shop": column(lambda: rng.choice(TEXTS)),
        "price": column(lambda: rng.choice(NUMBERS)),
        "added": column(lambda: rng.choice(list(DATES))),
        "tags": column(lambda: rng.sample(TEXTS, rng.randrange(4))),
    }


def as_given(columns):
    """The same in other forms that an index takes."""
    dates = [
        None if s is None else datetime.datetime.fromtimestamp(s, datetime.timezone.utc)
        for s in columns["added"]
    ]
    sets = [None if tags is None else set(tags) for tags in columns["tags"]]
    return {**columns, "added": dates, "tags": sets}


def tree(rng, depth):
    """A random filter as nested tuples."""
    kind = rng.choice(["and", "or", "not", "leaf"]) if depth else "leaf"
    if kind in ("and", "or"):
        parts = [tree(rng, depth - 1) for _ in range(rng.randint(2, 3))]
        return (kind, *parts)
    if kind == "not":
        return ("not", tree(rng, depth - 1))
    name = rng.choice(list(KINDS))
    if rng.random() < 0.15:
        return ("missing", name, rng.random() < 0.5)
    if name == "tags":
        return ("contains", name, rng.choice([*TEXTS, "none has this"]), coin(rng))
    values = {"shop": [*TEXTS, "unknown"], "price": [*NUMBERS, 7], "added": [*DATES, 9]}
    if rng.random() < 0.3:
        chosen = rng.sample(values[name], rng.randint(1, 3))
        return ("in", name, chosen, coin(rng))
    operators = ["==", "!="] if name == "shop" else list(_COMPARE)
    return (rng.choice(operators), name, rng.choice(values[name]), coin(rng))


def coin(rng):
    return rng.random() < 0.5


def text(rng, node, within="or"):
    """One of the ways to write a filter.

    `within` is what the node is part of, which says where parentheses are needed.
    """
    kind, rest = node[0], node[1:]
    if kind in ("and", "or"):
        # "and" binds more closely; a part of the same kind is written with parentheses
        # or, as it says the same, without.
        joined = f" {kind} ".join(text(rng, part, kind) for part in rest)
        needed = within == "not" or (within, kind) == ("and", "or")
        return f"({joined})" if needed or coin(rng) else joined
    if kind == "not":
        return f"not {text(rng, rest[0], 'not')}"
    written = _leaf(rng, kind, *rest)
    return f"( {written} )" if rng.random() < 0.2 else written


def _leaf(rng, kind, name, value, flag=None):
    if kind == "missing":
        return f"{name} is {'not ' if value else ''}missing"
    word = "not in" if flag else "in"
    if kind == "contains":
        return f"{_literal(rng, name, value)} {word}  {name}"
    if kind == "in":
        return f"{name} {word} [{', '.join(_literal(rng, name, v) for v in value)}]"
    space = rng.choice(["", " ", "\t"])
    if flag:  # Which side is left to chance.
        return f"{_literal(rng, name, value)} {_MIRRORED[kind]}{space}{name}"
    return f"{name}{space}{kind} {_literal(rng, name, value)}"


def _literal(rng, name, value):
    if name == "price":
        return repr(value)
    if name == "added":
        dates = DATES.get(value)
        return json.dumps(dates) if dates and coin(rng) else repr(value)
    if coin(rng):
        return json.dumps(value)  # é as \u00e9.
    escaped = value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"


def passes(node, item):
    """Whether an item, a dict, passes a filter."""
    kind, rest = node[0], node[1:]
    if kind == "and":
        return all(passes(part, item) for part in rest)
    if kind == "or":
        return any(passes(part, item) for part in rest)
    if kind == "not":
        return not passes(rest[0], item)
    name, value = rest[:2]
    held = item[name]
    if kind == "missing":
        return bool(held is None or held == []) != value
    if kind == "contains":
        return (value in (held or [])) != rest[2]
    if held is None:
        return False
    if kind == "in":
        return (held in value) != rest[2]
    return _COMPARE[kind](held, value)


def expected(node, columns):
    """Which of the items pass, a list of bool."""
    size = len(columns["shop"])
    return [
        passes(node, {name: values[row] for name, values in columns.items()})
        for row in range(size)
    ]
