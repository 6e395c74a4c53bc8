"""Verdicts on quotes whose truth is known, and the status of sources that were edited after they were indexed.

    python bench/verify.py TREE [--other TREE] [--files 150] [--quotes 2000] [--seed 1] [--builtin]

Indexes a copy of a sample of the tree, makes quotes of many kinds from the indexed texts, edits the files, and verifies
the quotes. What is true of a quote is established on the texts in the catalogue, by its own plain means (a string in a
string, over all texts), never by the code that is measured. Encoding does not matter here: a hash stands in for the
model unless ``--builtin``.
"""

import argparse
import random
import re
import shutil
import sqlite3
import statistics
import tempfile
import textwrap
import time
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hash_encoder import HashEncoder

from colbert_mcp.config import Config, IndexConfig, StoreConfig
from colbert_mcp.encoder import Encoder
from colbert_mcp.engine import Engine
from colbert_mcp.results import VERIFIED, VerifyOutput

_WORD = re.compile(r"\w+|[^\w\s]")
_PLAIN = str.maketrans({**dict.fromkeys("‘’", "'"), **dict.fromkeys("“”", '"'), **dict.fromkeys("–—", "-"), "…": "..."})
_NEGATED = re.compile(r"\b(is|are|was|were|can|could|will|would|should|must|may|does|do|did|has|have|had)\b")


@dataclass(frozen=True, slots=True)
class Indexed:
    """A passage as the catalogue has it."""

    id: str
    path: str
    start: int
    end: int
    byte_start: int
    byte_end: int
    text: str


@dataclass(frozen=True, slots=True)
class Case:
    """A quote, what it is attributed to, and the verdicts that are right."""

    kind: str
    quote: str
    passage_id: str | None
    path: str | None
    right: frozenset[str]


def plain(text: str) -> str:
    """A text so that two which differ only in typography, white space or case are equal (a crude form of its own)."""
    text = "".join(c for c in unicodedata.normalize("NFC", text) if c not in "\u00ad\u200b")
    for ligature, letters in (("ﬁ", "fi"), ("ﬂ", "fl")):
        text = text.replace(ligature, letters)
    return " ".join(re.sub(r"-{2,3}", "-", text.translate(_PLAIN)).lower().split())


class Corpus:
    """The passages of an index, read from its catalogue by SQL alone, and the texts of its files."""

    def __init__(self, catalogue: Path) -> None:
        with sqlite3.connect(f"file:{catalogue}?mode=ro", uri=True) as database:
            rows = database.execute(
                "SELECT passage_id, path, char_start, char_end, byte_start, byte_end, text FROM chunks"
                " JOIN documents ON documents.id = document ORDER BY path, ordinal"
            ).fetchall()
        database.close()
        self.passages = [Indexed(row[0], row[1].decode(), *row[2:]) for row in rows]
        self.of_file: dict[str, list[Indexed]] = defaultdict(list)
        for passage in self.passages:
            self.of_file[passage.path].append(passage)
        self.raw = {path: Path(path).read_bytes() for path in self.of_file}
        self.plain = {path: plain(" ".join(p.text for p in found)) for path, found in self.of_file.items()}
        self.everything = "\n".join(self.plain.values())
        self.literal = "\n".join(p.text for p in self.passages)
        words = re.findall(r"[^\W\d_]{3,}", self.literal)
        self.vocabulary = sorted({word for word in words if word.isascii()})
        self.follows: dict[str, list[str]] = defaultdict(list)
        for first, second in pairwise(words):
            self.follows[first].append(second)

    def holds(self, quote: str) -> bool:
        """Whether the quote stands anywhere, but for typography; parts of words count too, so this errs to yes."""
        return plain(quote).strip(" .,;:") in self.everything


class Maker:
    """Makes cases; each maker returns None where its premise fails for the passage at hand."""

    def __init__(self, corpus: Corpus, other: Sequence[str], seed: int) -> None:
        self.corpus = corpus
        self.other = other
        self.random = random.Random(seed)
        self.kinds: dict[str, Callable[[Indexed, str], Case | None]] = {
            "exact": self.exact,
            "spanning": self.spanning,
            "typography": self.typography,
            "space and case": self.space_and_case,
            "elided": self.elided,
            "changed word": self.changed_word,
            "dropped word": self.dropped_word,
            "changed number": self.changed_number,
            "negation": self.negation,
            "misattributed": self.misattributed,
            "recombined": self.recombined,
            "other tree": self.other_tree,
        }

    def cases(self, count: int) -> list[Case]:
        """``count`` cases, of all kinds alike."""
        cases: list[Case] = []
        names = list(self.kinds)
        for _ in range(200 * count):
            if len(cases) == count:
                break
            passage = self.random.choice(self.corpus.passages)
            real = self.sentences(passage)
            case = self.kinds[names[len(cases) % len(names)]](passage, real) if real else None
            if case is not None:
                cases.append(case)
            elif self.random.random() < 0.02:
                names.append(names.pop(0))  # a kind that this tree does not yield must not stop the others
        return cases

    def sentences(self, passage: Indexed) -> str | None:
        """One to three sentences of a passage, as they stand there."""
        cuts = [0, *(m.end() for m in re.finditer(r"[.!?]\s+", passage.text)), len(passage.text)]
        first = self.random.randrange(len(cuts) - 1)
        last = min(first + self.random.randint(1, 3), len(cuts) - 1)
        quote = passage.text[cuts[first] : cuts[last]].strip()
        long_enough = 6 <= sum(any(c.isalnum() for c in word) for word in quote.split()) <= 80
        return quote if long_enough and "…" not in quote and "..." not in quote else None

    def case(self, kind: str, quote: str, passage: Indexed, *right: str) -> Case:
        """A case attributed to the passage, its file, or nothing."""
        passage_id, path = self.random.choice(
            [(passage.id, None), (passage.id, None), (None, passage.path), (None, None)]
        )
        return Case(kind, quote, passage_id, path, frozenset(right))

    def false(self, kind: str, quote: str, passage: Indexed, *right: str) -> Case | None:
        """A case that is none if the quote stands somewhere after all."""
        return None if self.corpus.holds(quote) else self.case(kind, quote, passage, *right)

    def exact(self, passage: Indexed, real: str) -> Case | None:
        """The very text."""
        return self.case("exact", real, passage, "exact")

    def spanning(self, passage: Indexed, real: str) -> Case | None:
        """The end of a passage and the beginning of the next, as they stand in the file."""
        siblings = self.corpus.of_file[passage.path]
        at = siblings.index(passage)
        if at + 1 == len(siblings):
            return None
        text = self.corpus.raw[passage.path].decode()
        start = passage.end - len(" ".join(passage.text.split()[-6:]))
        end = siblings[at + 1].start + len(" ".join(siblings[at + 1].text.split()[:6]))
        while start and not text[start - 1].isspace():
            start -= 1
        while end < len(text) and not text[end].isspace():
            end += 1
        quote = text[start:end].strip()
        return None if "..." in quote or "…" in quote else self.case("spanning", quote, passage, "exact", "normalised")

    def typography(self, passage: Indexed, real: str) -> Case | None:
        """Other quotation marks, dashes, ligatures, invisible characters, decomposed accents; or marks around it."""
        steps: list[Callable[[str], str]] = [
            lambda t: t.replace("'", "’") if "'" in t else t.replace("’", "'"),
            lambda t: re.sub(r'"([^"]*)"', r"“\1”", t) if '"' in t else t.replace("“", '"').replace("”", '"'),
            lambda t: re.sub(r"(?<=\w)-(?=\w)", "‑", t),
            lambda t: re.sub(r"(?<=\w)[—–](?=\w)|(?<= )[—–](?= )", "-", t),
            lambda t: re.sub(r"(?<= )--(?= )", "—", t),
            lambda t: t.replace("fi", "ﬁ").replace("fl", "ﬂ"),
            lambda t: re.sub(r"(\w{4})(\w{4})", "\\1\u00ad\\2", t, count=1),
            lambda t: t.replace(" ", "\u00a0", 1),
            lambda t: re.sub(r"(\w{3})(\w{3})", "\\1\u200b\\2", t, count=1),
            lambda t: unicodedata.normalize("NFD", t),
            lambda t: f"…{t}",
            lambda t: f"{t[:-1]}," if t[-1] == "." and t[-2].isalpha() else t,
        ]
        quote = real
        for step in self.random.sample(steps, 4):
            quote = step(quote)
        if (
            quote in self.corpus.literal
            or quote == real
            or plain(real).strip(" .,") not in self.corpus.plain[passage.path]
        ):
            return None
        return self.case("typography", self.random.choice(["{}", "“{}”"]).format(quote), passage, "normalised")

    def space_and_case(self, passage: Indexed, real: str) -> Case | None:
        """Lines joined or broken elsewhere, other case."""
        quote = self.random.choice([" ", "  ", "\n", " \n  "]).join(real.split())
        if self.random.random() < 0.6:
            change = self.random.choice([str.upper, str.lower, str.swapcase])
            quote = "".join(c if len(change(c)) > 1 or change(c).lower() != c.lower() else change(c) for c in quote)
        return None if quote in self.corpus.literal else self.case("space and case", quote, passage, "normalised")

    def elided(self, passage: Indexed, real: str) -> Case | None:
        """Two parts of one passage with an ellipsis between them."""
        words = [m.span() for m in re.finditer(r"\S+", real)]
        telling = [index for index, (a, b) in enumerate(words) if any(c.isalnum() for c in real[a:b])]
        if len(telling) < 11:
            return None
        first = telling[self.random.randint(3, len(telling) - 6)]
        second = telling[self.random.randint(telling.index(first) + 2, len(telling) - 4)]
        sign = self.random.choice([" … ", " ... ", " [...] ", " […] ", "… "])
        quote = real[: words[first][1]] + sign + real[words[second][0] :]
        return self.false("elided", quote, passage, "elided")

    def changed_word(self, passage: Indexed, real: str) -> Case | None:
        """One word is another."""
        found = self.random.choice(list(re.finditer(r"\b[^\W\d_]{3,}\b", real)) or [None])
        if found is None:
            return None
        quote = real[: found.start()] + self.random.choice(self.corpus.vocabulary) + real[found.end() :]
        return self.false("changed word", quote, passage, "altered")

    def dropped_word(self, passage: Indexed, real: str) -> Case | None:
        """One word inside is missing, without a sign of it."""
        words = re.split(r"(\s+)", real)
        inner = [index for index in range(2, len(words) - 2, 2) if any(c.isalnum() for c in words[index])]
        if not inner:
            return None
        at = self.random.choice(inner)
        return self.false("dropped word", "".join(words[:at] + words[at + 2 :]), passage, "altered")

    def changed_number(self, passage: Indexed, real: str) -> Case | None:
        """One digit is another, or a thousands separator is gone."""
        digits = [m.start() for m in re.finditer(r"\d", real)]
        if not digits:
            return None
        at = self.random.choice(digits)
        quote = real[:at] + str((int(real[at]) + self.random.randint(1, 9)) % 10) + real[at + 1 :]
        if re.search(r"\d,\d{3}", real):
            quote = re.sub(r"(\d),(\d{3})", r"\1\2", real, count=1)
        return self.false("changed number", quote, passage, "altered")

    def negation(self, passage: Indexed, real: str) -> Case | None:
        """A "not" more, or one less."""
        quote = re.sub(r"\bnot\s+", "", real, count=1)
        if quote == real:
            quote = re.sub(r"(\w)n['’]t\b", r"\1", real, count=1)
        if quote == real:
            quote = _NEGATED.sub(r"\1 not", real, count=1)
        return None if quote == real else self.false("negation", quote, passage, "altered")

    def misattributed(self, passage: Indexed, real: str) -> Case | None:
        """Text of one file attributed to another, or to another passage far away in the same file."""
        victim = self.random.choice(self.corpus.passages)
        if plain(real).strip(" .,;:") in self.corpus.plain[victim.path]:
            return None
        by_path = self.random.random() < 0.3
        return Case(
            "misattributed",
            real,
            None if by_path else victim.id,
            victim.path if by_path else None,
            frozenset({"misattributed"}),
        )

    def recombined(self, passage: Indexed, real: str) -> Case | None:
        """A sentence of a word model of the very texts."""
        words = [self.random.choice(self.corpus.vocabulary)]
        for _ in range(self.random.randint(8, 24)):
            words.append(self.random.choice(self.corpus.follows[words[-1]] or self.corpus.vocabulary))
        return self.false("recombined", " ".join(words).capitalize() + ".", passage, "not_found", "altered")

    def other_tree(self, passage: Indexed, real: str) -> Case | None:
        """A sentence of files that are not indexed."""
        return (
            self.false("other tree", self.random.choice(self.other), passage, "not_found", "altered")
            if self.other
            else None
        )


def edit(paths: Sequence[str], chance: random.Random) -> None:
    """Change files: insert, delete, wrap anew, rename, delete whole, or leave as they are."""
    for path in map(Path, paths):
        text = path.read_bytes().decode()
        lines = text.splitlines(keepends=True)
        at = chance.randrange(len(lines) + 1)
        match chance.choice(["insert", "cut", "wrap", "rename", "unlink", "nothing", "nothing"]):
            case "insert":
                text = "".join([*lines[:at], "A line that was not there before.\n\n", *lines[at:]])
            case "cut":
                text = "".join(lines[:at] + lines[at + 3 :])
            case "wrap":
                text = "\n\n".join(textwrap.fill(part, 60) for part in text.split("\n\n"))
            case "rename":
                path.rename(path.with_name("renamed-" + path.name))
                continue
            case "unlink":
                path.unlink()
                continue
        path.write_bytes(text.encode())


def true_status(passage: Indexed, before: bytes) -> str:
    """The status of a passage, by its bytes before and its file now."""
    source = before[passage.byte_start : passage.byte_end]
    try:
        now = Path(passage.path).read_bytes()
    except OSError:
        return "missing"
    if now[passage.byte_start : passage.byte_end] == source:
        return "current"
    return "relocated" if source in now else "modified"


def wrong_place(output: VerifyOutput, corpus: Corpus) -> bool:
    """Whether the first match's span does not hold its text: in the file as it was indexed, or is now if relocated."""
    match = output.matches[0]
    raw = Path(match.path).read_bytes() if match.status == "relocated" else corpus.raw[match.path]
    return raw.decode()[match.char_start : match.char_end].split() != match.text.split()


@dataclass(slots=True)
class Tally:
    """What came out: verdicts by kind, and what is wrong."""

    verdicts: Counter[tuple[str, str]]
    wrong: list[tuple[Case, VerifyOutput]]
    false_verified: int
    statuses: Counter[tuple[str, str]]
    wrong_places: int
    seconds: list[float]


def judge(engine: Engine, corpus: Corpus, cases: Sequence[Case]) -> Tally:
    """Verify every case and compare."""
    tally = Tally(Counter(), [], 0, Counter(), 0, [])
    by_id = {passage.id: passage for passage in corpus.passages}
    for case in cases:
        started = time.perf_counter()
        output = engine.verify_quote(case.quote, case.passage_id, case.path)
        tally.seconds.append(time.perf_counter() - started)
        tally.verdicts[case.kind, output.verdict] += 1
        if output.verdict not in case.right:
            tally.wrong.append((case, output))
            tally.false_verified += output.verdict in VERIFIED and not case.right & VERIFIED
        if output.matches:
            tally.wrong_places += wrong_place(output, corpus)
        if output.matches and len(output.matches[0].passage_ids) == 1:
            passage = by_id[output.matches[0].passage_id]
            tally.statuses[true_status(passage, corpus.raw[passage.path]), output.matches[0].status] += 1
    return tally


def prepare(tree: Path, files: int, scratch: Path, chance: random.Random) -> Path:
    """A copy of a sample of the tree's files that are UTF-8 text."""
    folder = scratch / "files"
    found = sorted(path for path in tree.rglob("*") if path.is_file() and path.stat().st_size < 1_000_000)
    chance.shuffle(found)
    copied = 0
    for path in found:
        try:
            text = path.read_bytes().decode()
        except (UnicodeDecodeError, OSError):
            continue
        if copied == files:
            break
        if "\0" not in text and text.strip() and not text.startswith("\ufeff"):
            target = folder / path.relative_to(tree)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            copied += 1
    return folder


def sentences_of(tree: Path | None, chance: random.Random) -> list[str]:
    """Sentences of a tree that is not indexed."""
    if tree is None:
        return []
    texts = [path.read_text(errors="ignore") for path in sorted(tree.rglob("*.*"))[:100] if path.is_file()]
    found = re.findall(r"[A-Z][^.!?]{40,200}[.!?](?=\s)", "\n".join(texts))
    return chance.sample(found, min(2000, len(found)))


def report(tally: Tally, cases: Sequence[Case], shown: int) -> None:
    """Print the table, the shares and the times."""
    names = ["exact", "normalised", "elided", "misattributed", "altered", "not_found"]
    print(f"{'':18}" + "".join(f"{name:>15}" for name in names))
    for kind in dict.fromkeys(case.kind for case in cases):
        print(f"{kind:18}" + "".join(f"{tally.verdicts[kind, name]:15,}" for name in names))
    milliseconds = [1000 * cut for cut in statistics.quantiles(tally.seconds, n=20)]
    print(f"right {1 - len(tally.wrong) / len(cases):.2%} of {len(cases):,}; ", end="")
    print(
        f"false quotes called exact, normalised or elided: {tally.false_verified}; wrong places: {tally.wrong_places}"
    )
    statuses = sum(tally.statuses.values())
    right = sum(count for (true, said), count in tally.statuses.items() if true == said)
    print(f"status right {right:,} of {statuses:,}: {dict(Counter(said for _, said in tally.statuses.elements()))}")
    print(f"p50 {milliseconds[9]:.1f} ms, p95 {milliseconds[18]:.1f} ms, most {1000 * max(tally.seconds):.0f} ms")
    for case, output in tally.wrong[:shown]:
        print(f"\n{case.kind}: {output.verdict}, expected {set(case.right)}\n  {case.quote!r}")
        print(f"  {[match.text for match in output.matches[:1]]}")


def main() -> None:
    """Index, make quotes, edit, verify, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--other", type=Path, help="another tree, to invent quotes from")
    parser.add_argument("--files", type=int, default=150)
    parser.add_argument("--quotes", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--builtin", action="store_true", help="index with the built-in model")
    parser.add_argument("--show", type=int, default=5, help="how many wrong verdicts to show")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    encoder: Encoder | None = None if options.builtin else HashEncoder()
    with tempfile.TemporaryDirectory() as scratch:
        folder = prepare(options.tree, options.files, Path(scratch), chance)
        index = Path(scratch) / "index"
        config = Config(index=IndexConfig(path=str(index)), store=StoreConfig(chroma=False))
        engine = Engine.open(config, create_missing=True, encoder=encoder)
        run = engine.index_path(folder)
        corpus = Corpus(index / "catalog.sqlite")
        print(f"{run.indexed} files, {run.chunks:,} passages, {len(corpus.literal):,} characters")
        cases = Maker(corpus, sentences_of(options.other, chance), options.seed).cases(options.quotes)
        edit(sorted(corpus.of_file), chance)
        tally = judge(engine, corpus, cases)
        engine.close()
    report(tally, cases, options.show)


if __name__ == "__main__":
    main()
