"""Runs experiments: cells, records, predictions, verdicts."""
