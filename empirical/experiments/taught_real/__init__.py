"""The experiment taught_real; see ``run.py``."""
