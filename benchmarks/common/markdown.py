"""Tables of the docs, and whether what they have to show holds."""

import statistics


def markdown(header, rows):
    """A table of cells that are texts."""
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    return "\n".join(lines + ["| " + " | ".join(cells) + " |" for cells in rows])


def mean_and_deviation(values, decimals=4):
    """Of several values, texts or numbers, the standard deviation too."""
    values = [float(value) for value in values]
    figures = [statistics.mean(values)]
    if len(values) > 1:
        figures.append(statistics.stdev(values))
    return " ± ".join(f"{figure:,.{decimals}f}" for figure in figures)


def verdict(passed, text):
    """Prints whether something holds, and returns it."""
    print("PASS" if passed else "FAIL", text, flush=True)
    return bool(passed)
