"""What a reranker adds to a search: the time of reading a query with the best passages; a random model, no download.

    python bench/reranker.py [--device auto] [--dtype auto] [--depth 30] [--length 256] [--searches 20]

A cross-encoder is written with random weights, in the shape of ms-marco-MiniLM-L6, and loaded and run as any other.
Passages have ``--length`` tokens each, a query eight. How well one ranks is measured on a labelled set:
``colbert-mcp compare default with-reranker.toml --on DATASET``.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertForSequenceClassification

from colbert_mcp.config import ModelConfig, SearchConfig
from colbert_mcp.encoder import load_reranker
from colbert_mcp.encoder.tokenizing import builtin_directory

SHAPE = BertConfig(
    vocab_size=30_522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536,
    max_position_embeddings=512, num_labels=1,
)  # fmt: skip
QUERY_WORDS = 8


def write_model(folder: Path) -> None:
    """A cross-encoder directory with random weights and the tokenizer of the built-in model."""
    torch.manual_seed(0)
    BertForSequenceClassification(SHAPE).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((builtin_directory() / name).read_bytes())


def words() -> list[str]:
    """Words that are one token each."""
    vocabulary = Tokenizer.from_file(str(builtin_directory() / "tokenizer.json")).get_vocab()
    return sorted(word for word in vocabulary if word.isalpha() and word.isascii() and len(word) > 2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--depth", type=int, default=30)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--searches", type=int, default=20)
    options = parser.parse_args()
    drawn, vocabulary = random.Random(0), words()
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        model = ModelConfig(device=options.device, dtype=options.dtype)
        reranker = load_reranker(SearchConfig(reranker=folder), model)
    wall, processor = [], []
    for _ in range(options.searches + 1):
        query = " ".join(drawn.choices(vocabulary, k=QUERY_WORDS))
        passages = [" ".join(drawn.choices(vocabulary, k=options.length)) for _ in range(options.depth)]
        began, spent = time.perf_counter(), time.process_time()
        reranker.scores(query, passages)
        wall.append(1000 * (time.perf_counter() - began))
        processor.append(1000 * (time.process_time() - spent))
    # The first is left out: it compiles what the others use.
    p50, p95 = np.percentile(wall[1:], [50, 95])
    print(
        f"{options.depth} passages of {options.length} tokens on {reranker.device} in {reranker.dtype}, "
        f"{torch.get_num_threads()} threads: p50 {p50:.0f} ms, p95 {p95:.0f} ms; "
        f"processor time {np.median(processor[1:]):.0f} ms (medians of {options.searches})"
    )


if __name__ == "__main__":
    main()
