"""An audit as one HTML page that needs nothing else."""

import html
import importlib.resources
import json

_PARTS = ("page.html", "page.css", "charts.js", "mixer.js", "page.js")


def page(report):
    """The report as a page with plots, the table and a mixer.

    The page holds its styles, its scripts and the report itself, and loads nothing: it
    can be opened from a disk and sent by mail.

    Args:
      report: As `measure` returns it.

    Returns:
      HTML.
    """
    folder = importlib.resources.files("tfrs_negatives.audit") / "web"
    parts = {name: (folder / name).read_text(encoding="utf-8") for name in _PARTS}
    # A "</script>" within a name would end the element.
    data = json.dumps(report, separators=(",", ":"), allow_nan=False)
    data = data.replace("<", "\\u003c").replace("\u2028", " ").replace("\u2029", " ")
    text = parts.pop("page.html")
    text = text.replace("{{title}}", html.escape(report["table"]["name"]))
    text = text.replace("{{styles}}", parts.pop("page.css"))
    text = text.replace("{{scripts}}", "\n".join(parts.values()))
    return text.replace("{{report}}", data)
