"""The experiment replay; see ``run.py``."""
