"""The signatures of a model, as a page for people that needs no other file."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence

import tensorflow as tf

from tfrs_negatives.serving.model_version import ModelVersion
from tfrs_negatives.serving.signature_schemas import json_of, tensor_text

#: A browser then refuses whatever a name of a model would bring in.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"

_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;"
    "padding:0 1rem;color:#222;background:#fff}"
    "table{border-collapse:collapse;margin:1rem 0}"
    "th,td{border:1px solid #bbb;padding:.3rem .7rem;text-align:left}"
    "code{font-family:ui-monospace,monospace}"
)


def signature_page(name: str, version: ModelVersion) -> str:
    """An HTML page.

    Args:
      name: What clients call the model.
      version: `ModelVersion`.
    """
    title = f"{name}, version {version.number}"
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
        f"<p><code>POST /v1/models/{html.escape(name)}:predict</code>. For programs: ",
        '<a href="openapi.json">openapi.json</a>.</p>',
    ]
    for signature in sorted(version.inputs):
        parts += _section(version, signature)
    return "".join([*parts, "</body></html>\n"])


def _section(version: ModelVersion, signature: str) -> list[str]:
    defaults = {
        name: json.dumps(json_of(value), ensure_ascii=False)
        for name, value in version.defaults[signature].items()
    }
    return [
        f"<h2><code>{html.escape(signature)}</code></h2>",
        _table(["input", "values", "if left out"], version.inputs[signature], defaults),
        _table(["output", "values"], version.outputs[signature]),
    ]


def _table(
    head: Sequence[str],
    specs: Mapping[str, tf.TensorSpec],
    defaults: Mapping[str, str] | None = None,
) -> str:
    rows = ["".join(f"<th>{cell}</th>" for cell in head)]
    for name in sorted(specs):
        cells = [name, tensor_text(specs[name])]
        if defaults is not None:
            cells.append(defaults.get(name, "refused"))
        rows.append(
            "".join(f"<td><code>{html.escape(cell)}</code></td>" for cell in cells)
        )
    return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"
