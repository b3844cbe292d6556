"""Table 3: what request-sorted data cost, and what masks and spreading give back.

The benchmark of requests makes it; its docstring says how, and what each got to try.
"""

from tables import Table

TABLE = Table(
    data=("online_retail", "diginetica", "movielens"),
    script=(
        "requests/recovery.py",
        "--data",
        *("online_retail", "online_retail_users", "diginetica", "movielens"),
    ),
)
