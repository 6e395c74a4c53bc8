"""Documents with structure, and questions of them: labelled sets as Markdown files, and trees that have no labels.

Used by ``context.py``. Sections stand under their headings, paragraphs of one title after another under it. Knows
files and places in them; nothing of an encoder.
"""

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from colbert_mcp.measuring.reading import lines, records
from colbert_mcp.sentences import sentence_spans
from colbert_mcp.types import Chunk

CHARACTERS, SHORTEST_SHARE = 800_000, 12_000  # of a set; a longer document keeps its beginning
QUERIES = 300
Place = tuple[str, int, int]  # a document, and characters of it


@dataclass(frozen=True, slots=True)
class Question:
    """``gold``: where answers stand; ``left_out``: a passage that is no answer, by its place among all."""

    name: str
    text: str
    gold: tuple[Place, ...]
    left_out: int | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """Files by name, what is asked of them, and the places that are ranked by their best passage (none: passages)."""

    files: dict[str, str]
    questions: list[Question] = field(default_factory=list)
    units: list[Place] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Passages:
    """All passages of an index by position, with the file each is of, and what reads its text."""

    chunks: list[Chunk]
    files: list[str]
    texts: Mapping[str, str]


def pages(folder: Path) -> Source:
    """Sections under their headings in pages, whose titles are taken from their addresses."""
    parts: dict[str, list[tuple[str, str, str]]] = {}
    for _, record in records(folder / "corpus.jsonl"):
        name, title, text = (str(record[key]) for key in ("_id", "title", "text"))
        parts.setdefault(name.partition("#")[0], []).append((name, f"## {title}\n\n", text.removeprefix(title).strip()))
    return _assembled(folder, {page.rpartition("/")[2].replace("-", " ").capitalize(): p for page, p in parts.items()})


def articles(folder: Path) -> Source:
    """Paragraphs of one title one after another, under it."""
    parts: dict[str, list[tuple[str, str, str]]] = {}
    for _, record in records(folder / "corpus.jsonl"):
        name, title, text = (str(record[key]) for key in ("_id", "title", "text"))
        parts.setdefault(title, []).append((name, "", text.strip()))
    return _assembled(folder, parts)


def _assembled(folder: Path, parts: Mapping[str, list[tuple[str, str, str]]]) -> Source:
    """Files from (id, heading, text) by title; gold is an answer's span if the set knows it, else a text."""
    files: dict[str, str] = {}
    places: dict[str, Place] = {}
    starts: dict[str, tuple[str, int]] = {}
    for number, (title, members) in enumerate(parts.items()):
        file, text = f"{number:05}.md", f"# {title}\n\n"
        for name, heading, body in members:
            starts[name] = (file, len(text) + len(heading))
            places[name] = (file, len(text), len(text) + len(heading) + len(body))
            text += f"{heading}{body}\n\n"
        files[file] = text
    gold: dict[str, list[Place]] = {}
    known = _answers(folder)
    for query, document in _judged(folder):
        file, start = starts[document]
        spans = known.get((query, document))
        gold.setdefault(query, []).extend(
            [(file, start + a, start + b) for a, b in spans] if spans else [places[document]]
        )
    return Source(files, _questions(folder, gold), [] if known else list(places.values()))


def long_files(folder: Path) -> Source:
    """Few long documents, in which answers are spans; headings of wiki texts become Markdown's, as long."""
    files = {
        f"{r['_id']}.md": _WIKI_HEADING.sub(_as_markdown, str(r["text"])) for _, r in records(folder / "corpus.jsonl")
    }
    gold: dict[str, list[Place]] = {}
    for (query, document), spans in _answers(folder).items():
        gold.setdefault(query, []).extend((f"{document}.md", start, end) for start, end in spans)
    return Source(files, _questions(folder, gold))


_WIKI_HEADING = re.compile(r"^ ((?:= )+)([^=\n]+?)((?: =)+) $", re.MULTILINE)


def _as_markdown(match: re.Match[str]) -> str:
    marks, title, closing_marks = match.groups()
    return f" {'#' * marks.count('=')}".ljust(len(marks) + 1) + title + " " * (len(closing_marks) + 1)


def _answers(folder: Path) -> dict[tuple[str, str], list[tuple[int, int]]]:
    if not any(folder.glob("answers.jsonl*")):
        return {}
    found: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for _, record in records(folder / "answers.jsonl"):
        spans = record.get("spans") or [(a["start"], a["start"] + len(a["text"])) for a in record["answers"]]  # type: ignore[attr-defined]
        found.setdefault((str(record["query-id"]), str(record["corpus-id"])), []).extend((a, b) for a, b in spans)  # type: ignore[attr-defined]
    return found


def _judged(folder: Path) -> Iterator[tuple[str, str]]:
    for place, line in lines(folder / "qrels" / "test.tsv"):
        query, document, gain = line.split("\t")[:3]
        if place.line > 1 and float(gain) > 0:
            yield query, document


def _questions(folder: Path, gold: Mapping[str, list[Place]]) -> list[Question]:
    asked = ((str(record["_id"]), str(record["text"])) for _, record in records(folder / "queries.jsonl"))
    return [Question(name, text, tuple(gold[name])) for name, text in asked if name in gold]


def shortened(source: Source) -> Source:
    """About CHARACTERS of the files, the beginning of each, and the questions whose answers are all still there."""
    names = sorted(source.files)
    random.Random(0).shuffle(names)
    share, left, files = max(SHORTEST_SHARE, CHARACTERS // len(names)), CHARACTERS, {}
    for name in names:
        text = source.files[name]
        # Not within a paragraph, if one ends.
        files[name] = text if len(text) <= share else text[: max(text.rfind("\n\n", 0, share), 0) or share]
        left -= len(files[name])
        if left <= 0:
            break

    def there(place: Place) -> bool:
        return place[0] in files and place[2] <= len(files[place[0]])

    questions = [question for question in source.questions if all(map(there, question.gold))]
    random.Random(0).shuffle(questions)
    return Source(files, questions[:QUERIES], list(filter(there, source.units)))


def tree(folder: Path) -> Source:
    """Files with headings of a tree."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".md", ".mdx", ".rst") and path.is_file())
    return Source({f"{n:05}{path.suffix}": path.read_text("utf-8", "replace") for n, path in enumerate(paths)})


def cloze(passages: Passages) -> list[Question]:
    """Sentences that are to find the other passages of their section; none has a word of its headings."""
    sections: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for index, chunk in enumerate(passages.chunks):
        if chunk.headings:
            sections.setdefault((passages.files[index], chunk.headings), []).append(index)
    chosen, questions = random.Random(0), []
    for (file, headings), members in sections.items():
        own = chosen.choice(members)
        text = passages.chunks[own].text
        named = _stems(" ".join(headings))
        sentences = [text[a:b] for a, b in sentence_spans(text) if 8 <= len(text[a:b].split()) <= 40]
        fit = [sentence for sentence in sentences if sentence[:1].isalpha() and not _stems(sentence) & named]
        others = [passages.chunks[index].span for index in members if index != own]
        if fit and others:
            gold = tuple((file, span.char_start, span.char_end) for span in others)
            questions.append(Question(f"{file}{headings}", chosen.choice(fit), gold, own))
    chosen.shuffle(questions)
    return questions[:QUERIES]


def _stems(text: str) -> set[str]:
    return {word[:5] for word in re.findall(r"\w{3,}", text.casefold())}
