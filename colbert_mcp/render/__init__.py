"""Results as a person reads them: ``terminal`` for the command line, ``page`` for a browser, and ``escaping`` for both.

Text of documents and names of files are hostile: a terminal obeys control characters, a browser obeys markup. Knows
result types; nothing of where results come from. Prints and writes nothing itself.
"""
