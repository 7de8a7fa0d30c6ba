"""The experiment entities; see ``run.py``."""
