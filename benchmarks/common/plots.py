"""Charts of the docs."""

import pathlib

from benchmarks.common import command_line, csv_rows
from benchmarks.common.provenance import PROJECT

IMAGES = PROJECT / "docs" / "images"
BLUE, RED, YELLOW, GREY, VIOLET = (
    "#1f6feb",
    "#d1242f",
    "#bf8700",
    "#57606a",
    "#8250df",
)


def new(width, height):
    """A matplotlib figure of so many inches that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    chart = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(chart)
    return chart


def save(chart, path, dpi=150):
    """Writes a PNG, and says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chart.savefig(path, dpi=dpi)
    print(path, flush=True)


def draw_lines(axes, curves, names):
    """Draws a curve a subject.

    Args:
      axes: Of the chart.
      curves: From a subject to its points, pairs (x, y), in any order.
      names: From a subject to (label, colour, style); the others are left out.
    """
    for subject, (label, colour, style) in names.items():
        if points := sorted(curves.get(subject, ())):
            axes.plot(*zip(*points, strict=True), style, color=colour, label=label)


def draw_band(axes, places, low, middle, high, **style):
    """Draws a line, and a band around it."""
    (line,) = axes.plot(places, middle, **style)
    axes.fill_between(places, low, high, color=line.get_color(), alpha=0.2)


def rows_and_images(description, *tables):
    """Rows of CSVs, and where images go, by the command line of a script that plots.

    Args:
      description: The script's docstring.
      *tables: Paths of the CSVs by default.
    """
    parser = command_line.parser(description, quick=False)
    parser.add_argument(
        "--rows",
        type=pathlib.Path,
        nargs=len(tables),
        default=list(tables),
        help=f"CSVs (default: {', '.join(t.name for t in tables)} beside this script)",
    )
    parser.add_argument(
        "--images",
        type=pathlib.Path,
        default=IMAGES,
        help="folder where images go (default: docs/images)",
    )
    arguments = parser.parse_args()
    return [csv_rows.read(path) for path in arguments.rows], arguments.images


def plot_rows(description, rows, plot, image):
    """The whole of a script that draws one image of one CSV.

    Args:
      description: The script's docstring.
      rows: Path of the CSV by default.
      plot: Function of rows and of the image's path.
      image: Its name.
    """
    (found,), images = rows_and_images(description, rows)
    plot(found, images / image)
