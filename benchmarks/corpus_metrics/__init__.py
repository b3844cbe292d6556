"""Evaluation over the whole corpus, against TFRS."""
