"""What is measured: subjects at sizes, the most important first.

NumPy alone, as the machine with the GPU reads it too.
"""

import dataclasses
import json

from benchmarks.gpu.problems import Problem

TEMPERATURE = 0.1
DTYPES = ("float32", "tf32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Subject:
    """Something that is timed.

    Attributes:
      engine: "xla" for programs that were exported, "torch" for PyTorch.
      inputs: Names of `problems.Problem.inputs`, in the order that it takes them.
      trained: How many of them, from the first on, have gradients.
      computes: What it computes, a name of `reference`.
      corrections: What it corrects for, in words.
    """

    engine: str
    inputs: tuple
    trained: int
    computes: str
    corrections: str


# What comes in a case's dtype; all other floats are float32.
EMBEDDINGS = (
    "queries",
    "candidates",
    "negatives",
    "distinct_queries",
    "distinct_candidates",
)

_PLAIN = ("queries", "candidates")
_CORRECTED = (*_PLAIN, "ids", "users", "log_q")
_NEGATIVES = ("negatives", "negative_ids", "negative_log_q")
_DISTINCT = ("distinct_queries", "distinct_candidates", "query_rows", "candidate_rows")
_ALL = "same user, accidental hits, log q"

SUBJECTS = {
    "ours": Subject("xla", _CORRECTED, 2, "corrected", _ALL),
    "ours_plain": Subject("xla", _PLAIN, 2, "plain", "none"),
    "tfrs": Subject("xla", _CORRECTED, 2, "corrected", _ALL),
    "floor": Subject("xla", _PLAIN, 0, "floor", "none: three products, one softmax"),
    "distinct": Subject(
        "xla", (*_DISTINCT, "ids", "sorted_users", "log_q"), 2, "distinct", _ALL
    ),
    "mined": Subject("xla", _CORRECTED, 2, "mined", f"{_ALL}, 100 hardest negatives"),
    "row_negatives": Subject(
        "xla",
        ("queries", "candidates", "negatives", *_CORRECTED[2:], *_NEGATIVES[1:]),
        3,
        "row_negatives",
        f"{_ALL}, 16 negatives of each row",
    ),
    "torch_eager": Subject("torch", _CORRECTED, 2, "corrected", _ALL),
    "torch_compiled": Subject("torch", _CORRECTED, 2, "corrected", _ALL),
    # Neither can drop single pairs; the latter has no log q either.
    "liger": Subject("torch", (*_PLAIN, "log_q"), 2, "log_q", "log q"),
    "cut_cross_entropy": Subject("torch", _PLAIN, 2, "plain", "none"),
}
CORRECTED = ("ours", "tfrs", "torch_eager", "torch_compiled")
PEERS = ("liger", "cut_cross_entropy")


@dataclasses.dataclass(frozen=True)
class Case:
    """One subject at one size.

    Attributes:
      subject: A key of `SUBJECTS`.
      problem: The `problems.Problem`.
      dtype: Of `DTYPES`: what embeddings come in and, for "tf32", what float32 ones may
        be multiplied in.
      row_block: Rows that ours scores at once; 0 is what it chooses on a GPU.
    """

    subject: str
    problem: Problem
    dtype: str
    row_block: int = 0

    @property
    def engine(self):
        return SUBJECTS[self.subject].engine

    @property
    def program(self):
        """Name of the program, which knows nothing of what its inputs hold."""
        size = self.problem
        parts = [self.subject, f"B{size.rows}", f"K{size.extra}", f"d{size.width}"]
        if self.subject == "distinct":
            parts.append(f"V{size.num_distinct_items}")
        if self.row_block:
            parts.append(f"block{self.row_block}")
        return "_".join([*parts, self.dtype])

    @property
    def columns(self):
        """What its row of the table begins with; no two cases have the same."""
        size = self.problem
        return {
            "subject": self.subject,
            "rows": size.rows,
            "extra": size.extra,
            "width": size.width,
            "dtype": self.dtype,
            "collisions": size.collisions,
            "row_block": self.row_block,
        }

    def to_json(self):
        return json.dumps(self.columns)

    @classmethod
    def from_json(cls, text):
        found = json.loads(text)
        size = [found.pop(name) for name in ("rows", "extra", "width", "collisions")]
        return cls(found["subject"], Problem(*size), found["dtype"], found["row_block"])


def all_cases():
    """Those of a whole run, the most important first."""
    every = [*SUBJECTS]
    core = ["ours", "floor", *CORRECTED[1:]]
    first = Problem(32_768, 0, 128)
    found = [Case(s, first, "tf32") for s in every]
    found += [Case(s, first, "bfloat16") for s in every]
    found += [Case(s, first, "float32") for s in core]
    for block in (256, 512, 1_024, 4_096, 8_192):
        found += [Case("ours", first, d, block) for d in ("tf32", "bfloat16")]
    for block in (256, 1_024, 2_048, 4_096):
        found += [Case("ours", Problem(8_192, 0, 128), "tf32", block)]
    found += [Case(s, Problem(32_768, 0, 128, "8%"), "tf32") for s in ("ours", "tfrs")]
    for rows in (8_192, 4_096, 16_384, 1_024, 2_048, 65_536, 131_072):
        found += [Case(s, Problem(rows, 0, 128), "tf32") for s in core]
    for width in (64, 256):
        found += [Case(s, Problem(32_768, 0, width), "tf32") for s in core]
    for rows in (8_192, 32_768):
        found += [Case(s, Problem(rows, rows, 128), "tf32") for s in core]
    others = [s for s in every if s not in core]
    found += [Case(s, Problem(8_192, 0, 128), "tf32") for s in others]
    for rows in (8_192, 131_072):
        for dtype in ("bfloat16", "float32"):
            found += [Case(s, Problem(rows, 0, 128), dtype) for s in core]
    found += [Case(s, Problem(8_192, 0, 128, "8%"), "tf32") for s in core]
    return list(dict.fromkeys(found))


def quick_cases():
    """Every subject and dtype at a size that a processor runs in moments."""
    small = Problem(256, 64, 16)
    found = [Case(s, small, dtype) for dtype in DTYPES for s in SUBJECTS]
    found += [Case("ours", small, "float32", 96)]
    skewed = Problem(256, 64, 16, "8%")
    return [*found, *(Case(s, skewed, "float32") for s in ("ours", "tfrs"))]
