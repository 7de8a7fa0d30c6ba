"""The experiment recycle; see ``run.py``."""
