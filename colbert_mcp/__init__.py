"""colbert-mcp."""
