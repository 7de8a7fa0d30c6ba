"""The experiment first_step; see ``run.py``."""
