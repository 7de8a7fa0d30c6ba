"""The experiment gates; see ``run.py``."""
