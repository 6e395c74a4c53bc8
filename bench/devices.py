"""Whether a device ranks as the processor does: one folder indexed on each, the same questions asked of both.

    python bench/devices.py FOLDER [--model builtin] [--device auto] [--questions 100]

The processor encodes and scores in float32, the device as the product would. Questions are twelve words in a row of
passages drawn with a fixed seed. Printed: how far the embeddings and scores are apart, the share of the best passages
that are the same, and, where the best ten differ, the largest difference in score, as the processor has it, between a
passage that was left out and one that was taken.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from colbert_mcp.config import Config, IndexConfig, ModelConfig, SearchConfig, StoreConfig
from colbert_mcp.encoder import Encoder, load_encoder
from colbert_mcp.encoder.hardware import choose_device
from colbert_mcp.engine import Engine
from colbert_mcp.scoring import NumpyScorer, Scorer

BEST = 10


def indexed(folder: Path, index: Path, encoder: Encoder) -> Engine:
    """An engine over an index of the folder."""
    config = Config(index=IndexConfig(path=str(index)), store=StoreConfig(chroma=False), search=SearchConfig())
    engine = Engine.open(config, create_missing=True, encoder=encoder)
    started = time.monotonic()
    engine.index_path(folder)
    seconds = time.monotonic() - started
    tokens = engine.index_status().tokens
    print(f"{encoder.device} {encoder.dtype}: {tokens:,} tokens in {seconds:.1f} s, {tokens / seconds:,.0f} tokens/s")
    return engine


def scores(engine: Engine, encoder: Encoder, scorer: Scorer, questions: list[str]) -> tuple[np.ndarray, list[str]]:
    """MaxSim of every question with every passage [n, p], in the order of the passages' places; and the texts."""
    with engine._store.snapshot() as snapshot:
        passages = snapshot.reader.passages(snapshot.chunks.tolist())
        stored = [passages[chunk] for chunk in snapshot.chunks.tolist()]
        placed = sorted(range(len(stored)), key=lambda at: (stored[at].path, stored[at].ordinal))
        found = [
            snapshot.best_matches(scorer, query.token_embeddings, np.array(placed, np.int64)).mean(axis=0)
            for query in map(encoder.encode_query, questions)
        ]
        return np.array(found), [stored[at].chunk.text for at in placed]


def asked(texts: list[str], count: int) -> list[str]:
    """Twelve words in a row of each of some passages."""
    chance = np.random.default_rng(0)
    questions: list[str] = []
    for at in chance.permutation(len(texts)).tolist():
        words = texts[at].split()
        if len(words) >= 24 and len(questions) < count:
            start = int(chance.integers(len(words) - 12))
            questions.append(" ".join(words[start : start + 12]))
    return questions


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"])
    parser.add_argument("--questions", type=int, default=100)
    options = parser.parse_args()
    exact = load_encoder(ModelConfig(name=options.model, device="cpu", dtype="float32"))
    other = load_encoder(ModelConfig.model_validate({"name": options.model, "device": choose_device(options.device)}))
    with tempfile.TemporaryDirectory() as scratch:
        engines = [indexed(options.folder, Path(scratch) / str(i), encoder) for i, encoder in enumerate((exact, other))]
        _, texts = scores(engines[0], exact, NumpyScorer(), ["anything"])
        questions = asked(texts, options.questions)
        own, _ = scores(engines[0], exact, NumpyScorer(), questions)
        found, _ = scores(engines[1], other, other.scorer, questions)
        for engine in engines:
            engine.close()
    tokenized = exact.tokenize(texts[:100])
    cosines = np.concatenate(
        [
            (a.token_embeddings * b.token_embeddings).sum(axis=1)
            for a, b in zip(exact.encode_documents(tokenized), other.encode_documents(tokenized), strict=True)
        ]
    )
    print(f"{len(texts):,} passages, {len(questions)} questions; {other.device} {other.dtype}, {other.scorer.name}")
    print(f"token embeddings: cosine {cosines.mean():.5f} on average, {cosines.min():.5f} at least")
    apart = np.abs(own - found)
    print(f"scores: {apart.mean():.5f} apart on average, {apart.max():.5f} at most")
    best, others = np.argsort(-own)[:, :BEST], np.argsort(-found)[:, :BEST]
    same = [len(set(a) & set(b)) / BEST for a, b in zip(best.tolist(), others.tolist(), strict=True)]
    gaps = [float(row[a].min() - row[b].min()) for row, a, b in zip(own, best, others, strict=True)]
    print(f"first passage the same: {np.mean(best[:, 0] == others[:, 0]):.3f}; of the best ten: {np.mean(same):.3f}")
    print(f"where they differ, by at most {max(gaps):.5f} of score")


if __name__ == "__main__":
    main()
