"""The experiment entities_wide; see ``run.py``."""
