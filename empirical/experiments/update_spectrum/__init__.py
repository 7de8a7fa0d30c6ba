"""The experiment update_spectrum; see ``run.py``."""
