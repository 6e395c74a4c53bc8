"""Keeps indexed roots fresh: what the system tells of changes leads to ordinary runs."""
