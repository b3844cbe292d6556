"""Table 3: what request-sorted data cost, and what masks and spreading give back.

The benchmark of requests makes it; its docstring says how, and what each got to try.
"""

from tables import Table

SCRIPT = "requests/recovery.py"
LONGER = (SCRIPT, "--data", "diginetica", "--epochs", "12")

TABLE = Table(scripts=((SCRIPT,), LONGER, (*LONGER, "--batch", "512")))
