"""The experiment rank_threshold; see ``run.py``."""
