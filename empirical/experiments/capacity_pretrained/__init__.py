"""The experiment capacity_pretrained; see ``run.py``."""
