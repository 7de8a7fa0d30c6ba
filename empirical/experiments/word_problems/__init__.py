"""The experiment word_problems; see ``run.py``."""
