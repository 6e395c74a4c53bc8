"""Quotations: found in an answer, attributed to sources, and looked for in what is indexed."""
