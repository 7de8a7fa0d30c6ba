"""Generators of data whose right answers are known by construction."""
