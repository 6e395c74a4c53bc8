"""Looking after an index: verifying it, repairing it, and giving back the space that it does not need."""
