"""An audit as one HTML page that needs nothing else."""

from __future__ import annotations

import html
from typing import Any

from tfrs_negatives import _page

_PACKAGE = "tfrs_negatives.audit"
_SCRIPTS = ("mixer.js", "measured.js", "page.js")


def page(report: dict[str, Any]) -> str:
    """The report as a page with plots, the table and a mixer.

    The page holds its styles, its scripts and the report itself, and loads nothing: it
    can be opened from a disk and sent by mail.

    Args:
      report: As `measure` returns it.

    Returns:
      HTML.
    """
    scripts = [_page.part(_PACKAGE, name) for name in _SCRIPTS]
    return _page.filled(
        _page.part(_PACKAGE, "page.html"),
        title=html.escape(report["table"]["name"]),
        styles=_page.shared("base.css") + _page.part(_PACKAGE, "mixer.css"),
        scripts="\n".join([_page.shared("charts.js"), *scripts]),
        report=_page.as_data(report),
    )
