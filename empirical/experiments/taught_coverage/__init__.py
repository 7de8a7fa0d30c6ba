"""The experiment taught_coverage; see ``run.py``."""
