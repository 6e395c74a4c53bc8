"""What choices cost, measured: ``lengths`` indexes samples of the user's files, ``labelled`` reads a labelled set.

Knows the engine as the faces do.
"""
