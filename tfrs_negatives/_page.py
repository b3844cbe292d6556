"""HTML pages that need nothing else: styles, scripts and data are within them."""

from __future__ import annotations

import importlib.resources
import json
import re
from typing import Any


def part(package: str, name: str) -> str:
    """The text of a file in a package's folder `web`.

    Args:
      package: Its name; "tfrs_negatives" for what pages share.
      name: The file's.
    """
    folder = "_web" if package == "tfrs_negatives" else "web"
    path = importlib.resources.files(package) / folder / name
    return path.read_text(encoding="utf-8")


def shared(*names: str) -> str:
    """The texts of files that pages share, one after the other."""
    return "\n".join(part("tfrs_negatives", name) for name in names)


def as_data(value: Any) -> str:
    """JSON for a script element: a "</script>" within a text would end it."""
    data = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return data.replace("<", "\\u003c")


def filled(template: str, **values: str) -> str:
    """Replaces each {{name}} of the template, and nothing within the values."""
    pieces = re.split(r"\{\{(\w+)\}\}", template)
    pieces[1::2] = [values[name] for name in pieces[1::2]]
    return "".join(pieces)
