"""Verification of the claims: checks, Coq, the ladder, mutants."""
