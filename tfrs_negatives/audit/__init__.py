"""Audits: what the negatives of a table of interactions, and of a model, are."""

from tfrs_negatives.audit.audit_page import page
from tfrs_negatives.audit.audit_summary import summary
from tfrs_negatives.audit.audit_table import AuditTable, read_table
from tfrs_negatives.audit.audited_models import load_model
from tfrs_negatives.audit.measure import measure
from tfrs_negatives.audit.mixture_effects import mixture

__all__ = [
    "AuditTable",
    "load_model",
    "measure",
    "mixture",
    "page",
    "read_table",
    "summary",
]
