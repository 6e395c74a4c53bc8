"""How a web page is encoded: by its mark, by what it declares, else by what is detected. Knows bytes, not tags."""

import codecs
import re

from colbert_mcp.documents.decoding import decode, has_mark
from colbert_mcp.errors import DocumentError

_DECLARED_WITHIN = 2_048
_DECLARATION = re.compile(
    rb"""<meta\b[^>]{0,400}?\bcharset\s*=\s*["']?\s*([\w:.-]{1,40})|<\?xml\b[^>]{0,100}?\bencoding\s*=\s*["']([\w:.-]{1,40})""",
    re.IGNORECASE,
)
# What browsers read these names as (WHATWG Encoding Standard): the narrower sets are declared for the wider ones.
_WIDER = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "utf-16": "utf-8",  # a declaration that can be read as ASCII is not in UTF-16
    "utf-16-le": "utf-8",
    "utf-16-be": "utf-8",
}
_ALLOWED = re.compile(r"utf-8|cp\d+|iso8859-\d+|koi8-[rut]|mac-\w+|gb18030|big5hkscs|euc_jp|iso2022_jp|cp932|hz")


def decode_page(raw: bytes) -> str:
    """The text of a page, tags included. A byte that a declared encoding does not have is read as U+FFFD.

    Raises UnsupportedFormatError for binary data and UnreadableDocumentError where no encoding is found.
    """
    declared = None if has_mark(raw) else _declared(raw[:_DECLARED_WITHIN])
    if declared is not None:
        try:
            return raw.decode(declared)
        except UnicodeDecodeError:
            pass
    try:
        return decode(raw).text
    except DocumentError:
        if declared is None:
            raise
    return raw.decode(declared, "replace")


def _declared(head: bytes) -> str | None:
    found = _DECLARATION.search(head)
    if found is None:
        return None
    try:
        name = codecs.lookup((found[1] or found[2]).decode("ascii")).name
    except LookupError:
        return None
    name = _WIDER.get(name, name)
    return name if _ALLOWED.fullmatch(name) else None
