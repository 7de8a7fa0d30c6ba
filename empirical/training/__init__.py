"""Bases and adapters, trained one by one or many together."""
