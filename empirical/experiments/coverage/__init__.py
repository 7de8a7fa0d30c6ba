"""The experiment coverage; see ``run.py``."""
