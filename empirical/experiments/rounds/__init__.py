"""The experiment rounds; see ``run.py``."""
