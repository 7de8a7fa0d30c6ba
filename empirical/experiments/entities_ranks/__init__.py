"""The experiment entities_ranks; see ``run.py``."""
