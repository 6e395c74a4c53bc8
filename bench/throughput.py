"""Indexing against the model's bare forward pass, search latency, and disk use, on one tree in one run.

    python bench/throughput.py TREE [--sample 2000] [--searches 50] [--index DIR]

The bare pass runs the same model, dtype and batch size over a sample of the same chunks, already tokenized and sorted
by length; its rate is the ceiling. Queries are the first sentences of passages spread over the tree.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from colbert_mcp import Index
from colbert_mcp.chunking import cut_document
from colbert_mcp.config import Config, IndexConfig, ModelConfig
from colbert_mcp.documents import Discovery, Found, discover, read_document, real_path
from colbert_mcp.encoder import Tokenized, load_encoder
from colbert_mcp.encoder.colbert import ColBERTEncoder
from colbert_mcp.sentences import sentence_spans


def sample_chunks(tree: Path, encoder: ColBERTEncoder, count: int) -> tuple[list[Tokenized], list[str]]:
    """Chunks spread evenly over the tree, tokenized, and their texts."""
    chunks, texts = [], []
    for found in discover(real_path(tree), Discovery(10_000_000, hidden=False)):
        if isinstance(found, Found):
            document = read_document(found.path, 10_000_000)
            for piece in cut_document(document, encoder):
                chunks.append(piece.tokens)
                texts.append(document.text[piece.start : piece.end])
    chosen = np.linspace(0, len(chunks) - 1, min(count, len(chunks))).astype(int)
    return [chunks[i] for i in chosen], [texts[i] for i in chosen]


def bare_rate(encoder: ColBERTEncoder, chunks: list[Tokenized], batch_tokens: int) -> float:
    """Tokens per second (the chunks' own) of nothing but the backbone."""
    ordered = sorted((chunk.ids for chunk in chunks), key=len, reverse=True)
    started = time.monotonic()
    position = 0
    with torch.inference_mode():
        while position < len(ordered):
            length = len(ordered[position]) + 2
            batch = ordered[position : position + max(1, batch_tokens // length)]
            position += len(batch)
            ids = torch.zeros(len(batch), length, dtype=torch.int64)
            attention = torch.zeros_like(ids)
            for row, tokens in enumerate(batch):
                ids[row, 1 : len(tokens) + 1] = torch.from_numpy(tokens)
                attention[row, : len(tokens) + 2] = 1
            encoder.backbone({"input_ids": ids.to(encoder.device), "attention_mask": attention.to(encoder.device)})
    return sum(map(len, ordered)) / (time.monotonic() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--sample", type=int, default=2000, help="chunks of the bare pass")
    parser.add_argument("--searches", type=int, default=50)
    parser.add_argument("--index", type=Path, help="an index to make or to go on with (default: a temporary one)")
    options = parser.parse_args()
    loaded = load_encoder(ModelConfig())
    if not isinstance(loaded, ColBERTEncoder):
        raise SystemExit("the built-in encoder is not what this measures")
    chunks, texts = sample_chunks(options.tree, loaded, options.sample)
    print(f"device {loaded.device}, {loaded.dtype}, {torch.get_num_threads()} threads")
    before = bare_rate(loaded, chunks, ModelConfig().batch_tokens)
    with tempfile.TemporaryDirectory() as scratch:
        directory = options.index or Path(scratch) / "index"
        with Index.open(config=Config(index=IndexConfig(path=str(directory)))) as index:
            index.warm_up()
            run = index.index_path(options.tree)
            after = bare_rate(loaded, chunks, ModelConfig().batch_tokens)
            bare = (before + after) / 2
            if run.tokens:
                rate = run.tokens / run.seconds
                print(
                    f"indexing  {run.indexed / run.seconds:.2f} files/s, {run.chunks / run.seconds:.1f} chunks/s, ",
                    end="",
                )
                print(f"{rate:,.0f} tokens/s ({run.chunks:,} chunks, {run.tokens:,} tokens, {run.seconds:.0f} s)")
                print(f"bare pass {bare:,.0f} tokens/s (before {before:,.0f}, after {after:,.0f})", end="; ")
                print(f"ratio {rate / bare:.2f}")
            queries = [
                text[slice(*sentence_spans(text)[0])][:200] for text in texts[:: max(1, len(texts) // options.searches)]
            ]
            for mode in ("hybrid", "semantic", "lexical"):
                index.search(queries[0], mode=mode)  # type: ignore[arg-type]
                seconds = []
                for query in queries[: options.searches]:
                    started = time.monotonic()
                    index.search(query, mode=mode)  # type: ignore[arg-type]
                    seconds.append(time.monotonic() - started)
                cuts = statistics.quantiles(seconds, n=20)
                print(f"search    {mode:8} p50 {1000 * cuts[9]:.0f} ms, p95 {1000 * cuts[18]:.0f} ms")
            disk, status = index.index_status().bytes, index.index_status()
        own = disk["catalogue"] + disk["tokens"]
        print(f"disk      segments and catalogue {own / status.tokens:.0f} bytes a token, ", end="")
        print(f"Chroma {disk['chroma'] / status.passages / 1000:.1f} kB a chunk")


if __name__ == "__main__":
    main()
