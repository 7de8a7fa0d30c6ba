"""The experiment entities_methods; see ``run.py``."""
