"""Runs that bring an index up to date with a folder, what one would do, and taking a folder out again."""
