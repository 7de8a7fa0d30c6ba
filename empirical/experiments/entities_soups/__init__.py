"""The experiment entities_soups; see ``run.py``."""
