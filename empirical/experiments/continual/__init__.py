"""The experiment continual; see ``run.py``."""
