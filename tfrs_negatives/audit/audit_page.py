"""An audit as one HTML page that needs nothing else."""

from __future__ import annotations

import html
import importlib.resources
import json
import re
from typing import Any

_SCRIPTS = ("charts.js", "mixer.js", "measured.js", "page.js")


def page(report: dict[str, Any]) -> str:
    """The report as a page with plots, the table and a mixer.

    The page holds its styles, its scripts and the report itself, and loads nothing: it
    can be opened from a disk and sent by mail.

    Args:
      report: As `measure` returns it.

    Returns:
      HTML.
    """
    # A "</script>" within a name would end the element.
    data = json.dumps(report, separators=(",", ":"), allow_nan=False)
    return _fill(
        _part("page.html"),
        title=html.escape(report["table"]["name"]),
        styles=_part("page.css"),
        scripts="\n".join(map(_part, _SCRIPTS)),
        report=data.replace("<", "\\u003c"),
    )


def _part(name: str) -> str:
    folder = importlib.resources.files("tfrs_negatives.audit") / "web"
    return (folder / name).read_text(encoding="utf-8")


def _fill(template: str, **values: str) -> str:
    """Replaces each {{name}} of the template, and nothing within the values."""
    pieces = re.split(r"\{\{(\w+)\}\}", template)
    pieces[1::2] = [values[name] for name in pieces[1::2]]
    return "".join(pieces)
