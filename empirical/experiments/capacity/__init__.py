"""The experiment capacity; see ``run.py``."""
