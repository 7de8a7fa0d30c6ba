"""The experiment one_layer; see ``run.py``."""
