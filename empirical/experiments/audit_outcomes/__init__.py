"""The experiment audit_outcomes; see ``run.py``."""
