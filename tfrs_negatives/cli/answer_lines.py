"""An answer of a model as aligned columns."""

from __future__ import annotations

from typing import Any

from tfrs_negatives.cli.terminal_text import terminal_text


def answer_lines(answer: dict[str, list[Any]], score: str) -> list[str]:
    """Rank, id, title (if there are any) and score; rows without an item are left out.

    Args:
      answer: "ids", "scores" and perhaps "title", a value for each item.
      score: The head of the column of scores, with their unit.
    """
    found = [i for i, score in enumerate(answer["scores"]) if score != float("-inf")]
    rows = [("rank", "id", *(["title"] if "title" in answer else []), score)]
    for rank, i in enumerate(found, start=1):
        texts = [terminal_text(answer["ids"][i])]
        if "title" in answer:
            texts.append(terminal_text(answer["title"][i]))
        rows.append((str(rank), *texts, f"{answer['scores'][i]:.4f}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
