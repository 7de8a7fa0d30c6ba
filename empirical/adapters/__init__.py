"""Adapters on disk: read, audit, merge, and claims held against peft's own forward pass."""
