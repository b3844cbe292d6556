"""What `train` found as one HTML page that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from tfrs_negatives import _page
from tfrs_negatives.cli import comparison, row_names, trade_off
from tfrs_negatives.cli.terminal_text import terminal_text
from tfrs_negatives.recommender.early_stopping import MEASURE
from tfrs_negatives.recommender.example_users import ExampleUser

#: The file that `train` writes the page to.
REPORT = "report.html"

_PACKAGE = "tfrs_negatives.cli"

# Costs, of which less is better, and what is no merit.
_NOT_RANKED = {
    comparison.SECONDS,
    comparison.STEP_TIME,
    comparison.ROWS_A_SECOND,
    comparison.WIDTH,
    comparison.BEFORE,
    comparison.AFTER,
}


def page(written: dict[str, Any], examples: Sequence[ExampleUser]) -> str:
    """The page: table, curves, the dial of popularity, users with suggestions.

    It holds its styles, its script and its data, and loads nothing.

    Args:
      written: What `figures.json` holds.
      examples: `ExampleUser`s of the model that is exported.

    Returns:
      HTML.
    """
    data, dial, figures = written["data"], written["popularity"], written["figures"]
    return _page.filled(
        _page.part(_PACKAGE, "report.html"),
        title=_text(data["data"]),
        styles=_page.shared("base.css") + _page.part(_PACKAGE, "report.css"),
        scripts=_page.shared("charts.js") + _page.part(_PACKAGE, "report.js"),
        lead=_text(_lead(written)),
        facts=_facts(data),
        comparison=_comparison(figures),
        notes="".join(f"<p>{_text(_sentence(note))}</p>" for note in written["notes"]),
        dial=_text(_dial(dial, data["users evaluated"])),
        discounts=_discounts(dial),
        of_model=_text(
            "; ours is the exported model, trained on all rows"
            if written["model"]["trained on"] == "all rows"
            else ""
        ),
        examples="".join(map(_example, examples)),
        report=_page.as_data(_data(written)),
    )


def _text(text: object) -> str:
    return html.escape(terminal_text(text))


def _sentence(note: str) -> str:
    note = note.removeprefix("note: ")
    return note[:1].upper() + note[1:]


def _lead(written: dict[str, Any]) -> str:
    seeds = written["settings"]["seeds"]
    model, of = written["model"], "mean of seeds" if len(seeds) > 1 else "seed"
    return (
        f"{of.capitalize()} {', '.join(map(str, seeds))}. The model is trained on "
        f"{model['trained on']} (epochs: {model['epochs']})."
    )


def _facts(data: dict[str, Any]) -> str:
    shown = {
        "Interactions": f"{data['interactions']:,}",
        "Users": f"{data['users']:,}",
        "Items in training": f"{data['items']:,}",
        "Held-out pairs": f"{data['held-out pairs']:,}",
    }
    found = [f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in shown.items()]
    if data["times"] is not None:
        times = _text(data["times"])
        found.append(f'<div><dt>Times</dt><dd class="words">{times}</dd></div>')
    return "".join(found)


def _comparison(figures: dict[str, Any]) -> str:
    rows = []
    for name in figures[row_names.OURS]:
        cells = [comparison.cell(of[name], name) for of in figures.values()]
        means = [of[name]["mean"] for of in figures.values()]
        known = [mean for mean in means if mean is not None]
        best = None
        if name not in _NOT_RANKED and len(set(known)) > 1:
            best = max(known)
        rows.append(
            f'<tr><th scope="row">{_text(name)}</th>'
            + "".join(
                f"<td><b>{cell}</b></td>"
                if mean is not None and mean == best
                else f"<td>{cell}</td>"
                for cell, mean in zip(map(_text, cells), means, strict=True)
            )
            + "</tr>"
        )
    return _table(["", *figures], rows)


def _dial(dial: dict[str, Any], num_users: int) -> str:
    """About the table of discounts; `num_users` were evaluated in the comparison."""
    users = f"{dial['users']:,} users"
    if dial["users"] < num_users:
        users = (
            f"a random sample of {dial['users']:,} of the {num_users:,} evaluated users"
        )
    text = (
        "One trained model answers with any discount of popularity: "
        "tfrs-negatives query --popularity-discount, or popularity_discount of a "
        f"request. Measured on {users}. "
    )
    if dial["chosen"] is None:
        return text + "No discount was chosen: there was no validation part."
    return text + f"{dial['chosen']:g} was chosen: {trade_off.reason(dial)}."


def _discounts(dial: dict[str, Any]) -> str:
    has_validation = dial["discounts"][0]["validation"] is not None
    parts = ["figures", *(["validation"] if has_validation else [])]
    rows = []
    for of in dial["discounts"]:
        discount = of["popularity_discount"]
        kind = ' class="chosen"' if discount == dial["chosen"] else ""
        cells = [
            _text(comparison.cell(of[part][name], name))
            for part in parts
            for name in trade_off.SHOWN
        ]
        rows.append(
            f'<tr{kind}><th scope="row">{discount}</th>'
            + "".join(f"<td>{cell}</td>" for cell in cells)
            + "</tr>"
        )
    heads = [
        name if part == "figures" else f"{name}, validation"
        for part in parts
        for name in trade_off.SHOWN
    ]
    return _table(["popularity discount", *heads], rows)


def _table(heads: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(
        f'<th scope="col">{_text(name)}</th>' if name else "<td></td>" for name in heads
    )
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _example(example: ExampleUser) -> str:
    lists = [
        ("did last", "", example.last),
        ("ours", ' class="ours"', example.ours),
        (row_names.POPULARITY, "", example.popular),
    ]
    return (
        f"<article><h3>User {_text(example.user)}</h3>"
        + "".join(
            f"<div{kind}><h4>{name}</h4><ol>"
            + "".join(f"<li>{_text(item)}</li>" for item in items)
            + "</ol></div>"
            for name, kind, items in lists
        )
        + "</article>"
    )


def _data(written: dict[str, Any]) -> dict[str, Any]:
    """What the script draws."""
    figures, dial = written["figures"], written["popularity"]
    plain = figures.get(row_names.PLAIN)
    return {
        "curves": {"measure": MEASURE, "models": written["validation"]},
        "dial": {
            "discounts": [of["popularity_discount"] for of in dial["discounts"]],
            "figures": {
                name: [of["figures"][name]["mean"] for of in dial["discounts"]]
                for name in trade_off.SHOWN
            },
            "plain": (
                None
                if plain is None
                else {name: plain[name]["mean"] for name in trade_off.SHOWN}
            ),
        },
    }
