"""Documents made on the spot: PDF, DOCX and notebooks, valid ones and the parts of hostile ones."""

import io
import json
import zipfile
from collections.abc import Sequence

from docx import Document as Word
from fpdf import FPDF

HTML = """<!doctype html>
<html><head><meta charset="utf-8"><title>Not shown</title><style>p { color: red }</style></head>
<body>
<h1>Harbour <em>rules</em></h1>
<p>Boats over ten&nbsp;metres   keep to
the right &amp; wait.<br>Others may pass.</p>
<script>document.write("evil")</script><noscript>no script</noscript><template>a template</template>
<div hidden>a secret</div><p style="display: none">another</p>
<h2>Fees</h2>
<table><tr><th>Boat</th><th>Fee</th></tr><tr><td>Dinghy</td><td>4 €</td></tr></table>
<ul><li>Pay at the <b>office</b></li><li>or online<ul><li>by card</li></ul></li></ul>
<ol start="3"><li>Moor</li><li>Rest</li></ol>
<pre>
tide
  at 6:10
</pre>
<h2>Winter</h2><div>The slipway</div><div>is closed.</div>
</body></html>
"""


def pdf(pages: Sequence[str], *, outline: Sequence[tuple[int, str]] = (), password: str | None = None) -> bytes:
    """One page a text; an outline entry is (page from 0, title), an owner or user password encrypts."""
    made = FPDF()
    if password is not None:
        made.set_encryption(owner_password="owner", user_password=password or None)  # type: ignore[arg-type]
    for number, text in enumerate(pages):
        made.add_page()
        made.set_font("helvetica", size=11)
        for page, title in outline:
            if page == number:
                made.start_section(title)
        for line in text.split("\n"):
            made.cell(0, 6, line, new_x="LMARGIN", new_y="NEXT")
    return bytes(made.output())


def docx() -> bytes:
    """A title, nested headings, a list, a table."""
    made = Word()
    made.add_heading("The mill", 0)
    made.add_heading("Grinding", 1)
    made.add_paragraph("Stones turn slowly.\tRye takes longer.")
    made.add_heading("Safety", 2)
    made.add_paragraph("Keep hands away", style="List Bullet")
    made.add_paragraph("Wear no scarf", style="List Bullet")
    table = made.add_table(2, 2)
    for at, said in enumerate(["Grain", "Hours", "Rye", "Three"]):
        table.cell(at // 2, at % 2).text = said
    made.add_heading("Storing", 1)
    made.add_paragraph("Flour keeps for a year.")
    return saved(made)


def saved(made: object) -> bytes:
    """The bytes of a Word document."""
    buffer = io.BytesIO()
    made.save(buffer)  # type: ignore[attr-defined]
    return buffer.getvalue()


def package(parts: dict[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def word_xml(body: str) -> bytes:
    """The main part of a DOCX."""
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    return f'<?xml version="1.0"?><w:document xmlns:w="{space}"><w:body>{body}</w:body></w:document>'.encode()


def notebook(cells: Sequence[dict[str, object]], **more: object) -> bytes:
    """A notebook of nbformat 4 in Python."""
    metadata = {"kernelspec": {"language": "python", "name": "python3"}}
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5, **more}).encode()


def cell(kind: str, source: object, *outputs: dict[str, object]) -> dict[str, object]:
    """A cell, with the outputs it printed."""
    return {"cell_type": kind, "source": source, "metadata": {}, "outputs": list(outputs)}


def raw_pdf(objects: Sequence[bytes], trailer: bytes = b"") -> bytes:
    """A PDF of objects 1, 2, …, as they are; the first is the catalogue."""
    written = bytearray(b"%PDF-1.7\n")
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(written))
        written += b"%d 0 obj\n" % number + content + b"\nendobj\n"
    table = len(written)
    written += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for offset in offsets:
        written += b"%010d 00000 n \n" % offset
    written += b"trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, table)
    return bytes(written)


def stream(content: bytes, dictionary: bytes = b"") -> bytes:
    """A stream object."""
    return b"<< /Length %d %s >>\nstream\n" % (len(content), dictionary) + content + b"\nendstream"


NOTEBOOK = notebook(
    [
        cell("markdown", ["# Tides\n", "\n", "We measure the tide."]),
        cell("code", "import math\n\n\ndef height(hour):\n    return math.sin(hour)\n\n\nprint(height(6))"),
        cell("code", ""),
        cell("markdown", "## Results\n\nIt falls."),
        cell(
            "code",
            "height(1)",
            {"output_type": "stream", "name": "stdout", "text": ["line one\n", "line two\n"]},
            {"output_type": "execute_result", "data": {"text/plain": "0.84", "image/png": "aGk="}},
        ),
    ]
)
PDF = pdf(
    ["Preface\nThis book is about knots.", "1. Bowline\nA loop that holds.", "2. Sheet bend\nIt joins two ropes."],
    outline=[(0, "Preface"), (1, "Bowline"), (2, "Sheet bend")],
)
DOCX = docx()
SAMPLES = {"a.pdf": PDF, "a.docx": DOCX, "a.html": HTML.encode(), "a.xhtml": HTML.encode(), "a.ipynb": NOTEBOOK}

# Put together here, so that no scanner takes this file for a leak.
CREDENTIALS = [
    "-----BEGIN " + "PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\n",
    "-----BEGIN RSA " + "PRIVATE KEY-----\r\nMIIEvQIBADANBgkqhkiG9w0BAQ\n",
    "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n",
    "AKIA" + "ABCDEFGHIJ234567",
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "a1B2_" * 14,
    "glpat-" + "a1B2-" * 4,
    "xoxb-" + "1234567890-" * 2,
    "sk-ant-" + "a1B2" * 10,
    "sk-proj-" + "a1B2" * 10,
    "AIza" + "a1B2_" * 7,
]
