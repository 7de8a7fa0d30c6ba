"""The experiment entities_library; see ``run.py``."""
