"""Invisible characters made visible, for terminals, pages and JSON. Knows text and nothing else."""

import json
import unicodedata


def visible(text: str, *, keep: str = "\n\t") -> str:
    r"""The text with control, bidirectional and other invisible characters written as ``\xNN`` or ``\uNNNN``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or unicodedata.category(c) not in _INVISIBLE else _escaped(c) for c in text)


def visible_json(text: str) -> str:
    """JSON with the invisible characters of its strings written as JSON escapes, which mean the same."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(json.dumps(c)[1:-1] if unicodedata.category(c) in _INVISIBLE else c for c in text)


_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def _escaped(character: str) -> str:
    point = ord(character)
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
