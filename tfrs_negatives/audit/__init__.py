"""Audits: what the negatives of a table of interactions, and of a model, are."""

from tfrs_negatives.audit.measure import measure
from tfrs_negatives.audit.mixture import mixture
from tfrs_negatives.audit.models import load_model
from tfrs_negatives.audit.page import page
from tfrs_negatives.audit.summary import summary
from tfrs_negatives.audit.table import AuditTable, read_table

__all__ = [
    "AuditTable",
    "load_model",
    "measure",
    "mixture",
    "page",
    "read_table",
    "summary",
]
