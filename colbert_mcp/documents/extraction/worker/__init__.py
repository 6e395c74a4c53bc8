"""The child process that parses hostile files: it serves one file after another, each in a process of its own.

``__main__`` starts it, ``serve`` forks and limits, ``text`` collects what a reader finds, and there is one reader a
format (``pdf``, ``docx``, ``html``, ``notebook``). Runs without the rest of colbert_mcp, which it neither imports nor
trusts, and which does not trust it.
"""
