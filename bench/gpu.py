"""Encoding and search on a device against the rate at which it multiplies matrices; random models, no download.

    python bench/gpu.py [--device auto] [--documents N] [--length 300] [--chunks N] [--searches 20] [--batches N …]

Two models are written with random weights, in the shape of ModernBERT-base and of all-MiniLM-L6, and loaded and run by
the encoder as any other. The share is their arithmetic (two operations a weight and token, and attention) over the
device's own matrix-product rate in the same number format; with ``--batches`` for several sizes of batch. Search: the
three steps of a search over synthetic chunks (a mean, 16 pooled vectors and 145 tokens each, 128 dimensions, int8) by
each scorer; they must agree within the stated tolerance.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModel, BertConfig, ModernBertConfig, PreTrainedConfig

from colbert_mcp.config import ModelConfig, SearchConfig
from colbert_mcp.encoder import Tokenized, load_encoder
from colbert_mcp.encoder.colbert import ColBERTEncoder
from colbert_mcp.encoder.hardware import choose_batch_tokens, choose_device
from colbert_mcp.encoder.scoring import scorer_for
from colbert_mcp.encoder.tokenizing import builtin_directory
from colbert_mcp.maxsim import TokenMatrix
from colbert_mcp.scoring import TOLERANCE, NumpyScorer, PooledMatrix, Scorer

DIMENSION, POOLED, CHUNK_TOKENS, QUERY_TOKENS = 128, 16, 145, 32
SHAPES: dict[str, PreTrainedConfig] = {
    "ModernBERT-base": ModernBertConfig(
        vocab_size=50_368, hidden_size=768, num_hidden_layers=22, num_attention_heads=12, intermediate_size=1152,
        max_position_embeddings=8192, pad_token_id=0, cls_token_id=101, sep_token_id=102, bos_token_id=101,
        eos_token_id=102,
    ),
    "MiniLM-L6": BertConfig(
        vocab_size=30_522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536,
        max_position_embeddings=512,
    ),
}  # fmt: skip


def write_model(config: PreTrainedConfig, folder: Path, length: int) -> int:
    """A PyLate directory with random weights; returns the weights of the backbone that are multiplied."""
    backbone = AutoModel.from_config(config)
    backbone.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((builtin_directory() / name).read_bytes())
    dense = folder / "1_Dense"
    dense.mkdir()
    hidden = config.hidden_size
    settings = {"in_features": hidden, "out_features": DIMENSION, "bias": False}
    (dense / "config.json").write_text(
        json.dumps({**settings, "activation_function": "torch.nn.modules.linear.Identity", "use_residual": False})
    )
    save_file({"linear.weight": torch.randn(DIMENSION, hidden)}, dense / "model.safetensors")
    kinds = {"": "sentence_transformers.models.Transformer", "1_Dense": "pylate.models.Dense.Dense"}
    modules = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(kinds.items())]
    (folder / "modules.json").write_text(json.dumps(modules))
    own = {"model_type": "ColBERT", "query_prefix": "", "document_prefix": "", "document_length": length}
    own |= {"query_length": QUERY_TOKENS, "do_query_expansion": False, "skiplist_words": []}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(own))
    return sum(p.numel() for n, p in backbone.named_parameters() if p.ndim == 2 and "embeddings" not in n)


def synchronise(device: str) -> None:
    """Wait until the device is idle: it works while Python goes on."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def product_rate(device: str, dtype: torch.dtype, seconds: float = 2.0) -> float:
    """Operations per second of a large matrix product."""
    size = 8192 if device == "cuda" else 2048
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    left @ right
    synchronise(device)
    started, count = time.monotonic(), 0
    while time.monotonic() - started < seconds:
        left @ right
        synchronise(device)
        count += 1
    return 2.0 * size**3 * count / (time.monotonic() - started)


def encoding(name: str, device: str, documents: int, length: int, batches: list[int]) -> None:
    """Documents and tokens per second of one shape, and the share of the device's matrix-product rate."""
    config = SHAPES[name]
    with tempfile.TemporaryDirectory() as scratch:
        weights = write_model(config, Path(scratch), length)
        for batch_tokens in batches:
            encoder = load_encoder(ModelConfig(name=scratch, device=device, batch_tokens=batch_tokens))
            if not isinstance(encoder, ColBERTEncoder):
                raise SystemExit("not the encoder that this measures")
            chance = np.random.default_rng(0)
            own = encoder.content_length
            spans = np.arange(own), np.arange(own) + 1
            texts = [Tokenized(chance.integers(1000, 30_000, own), *spans) for _ in range(documents)]
            encoder.encode_documents(texts[: max(8, documents // 10)])
            started = time.monotonic()
            encoder.encode_documents(texts)
            seconds = time.monotonic() - started
            dtype = getattr(torch, encoder.dtype)
            tokens = documents * length
            a_token = 2 * weights + 4 * length * config.hidden_size * config.num_hidden_layers
            rate, done = product_rate(device, dtype), a_token * tokens / seconds
            print(
                f"{name:16} {encoder.dtype:9} batches of {choose_batch_tokens(batch_tokens, device):6,} tokens "
                f"{documents / seconds:10,.1f} documents/s {tokens / seconds:12,.0f} tokens/s, "
                f"{done / 1e12:.2f} of {rate / 1e12:.2f} TFLOP/s = {done / rate:.2f}"
            )


def timed(run: Callable[[], object], device: str, times: int) -> str:
    """Median and 95th percentile of a call in milliseconds, after one to warm up."""
    taken = []
    for _ in range(times + 1):
        started = time.monotonic()
        run()
        synchronise(device)
        taken.append(1000 * (time.monotonic() - started))
    cuts = statistics.quantiles(taken[1:], n=20)
    return f"p50 {cuts[9]:8.1f} ms, p95 {cuts[18]:8.1f} ms"


def matrices(chunks: int) -> tuple[PooledMatrix, PooledMatrix, TokenMatrix]:
    """Means, pooled vectors and tokens of synthetic chunks, of random directions."""
    # One block of random rows, repeated: drawing 20 GB would take minutes.
    drawn = np.random.default_rng(0).integers(-127, 128, (7 * 2**17, DIMENSION), np.int8)

    def rows(count: int) -> np.ndarray:
        whole = np.empty((count, DIMENSION), np.int8)
        for start in range(0, count, len(drawn)):
            whole[start : start + len(drawn)] = drawn[: count - start]
        return whole

    pooled = PooledMatrix(rows(chunks * POOLED).reshape(chunks, POOLED, DIMENSION), scales(chunks, POOLED))
    means = PooledMatrix(rows(chunks).reshape(chunks, 1, DIMENSION), scales(chunks, 1))
    offsets = np.arange(chunks + 1, dtype=np.int64) * CHUNK_TOKENS
    return means, pooled, TokenMatrix(rows(chunks * CHUNK_TOKENS), scales(chunks * CHUNK_TOKENS), offsets)


def scales(*shape: int) -> np.ndarray:
    """Scales that give rows of about length 1."""
    return np.full(shape, 1 / 850, np.float16)


def search(
    scorer: Scorer, query: np.ndarray, means: PooledMatrix, pooled: PooledMatrix, tokens: TokenMatrix
) -> tuple[np.ndarray, np.ndarray]:
    """The scan and exact scores of a search, as ``retrieval.ranking`` has them; (chunks, scores), best first."""
    config = SearchConfig()
    wanted = max(config.min_candidates, int(config.candidate_growth * np.sqrt(len(means))))
    near = scorer.best_pooled_matches(query.mean(axis=0, keepdims=True), means)[0]
    scanned = np.argpartition(-near, 10 * wanted)[: 10 * wanted] if len(near) > 10 * wanted else np.arange(len(near))
    matches = scorer.best_pooled_matches(query, pooled, scanned).mean(axis=0)
    chosen = scanned[np.argpartition(-matches, wanted)[:wanted]] if len(scanned) > wanted else scanned
    exact = scorer.best_matches(query, tokens, chosen).mean(axis=0)
    order = np.argsort(-exact, kind="stable")
    return chosen[order], exact[order]


def searching(device: str, chunks: int, searches: int) -> None:
    """Latency of a search's steps and of the whole, by the scorers of the processor and of the device."""
    query = np.random.default_rng(1).standard_normal((QUERY_TOKENS, DIMENSION)).astype(np.float32)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    means, pooled, tokens = matrices(chunks)
    size = (means.values.nbytes + pooled.values.nbytes + tokens.values.nbytes) / 1e9
    print(f"search over {chunks:,} chunks of {CHUNK_TOKENS} tokens ({size:.1f} GB), query of {QUERY_TOKENS} tokens:")
    reference = None
    for scorer in (NumpyScorer(), scorer_for("cpu"), *([scorer_for(device)] if device != "cpu" else [])):
        started = time.monotonic()
        found, exact = search(scorer, query, means, pooled, tokens)
        print(f"  {scorer.name}: the first search takes {time.monotonic() - started:.1f} s")
        whole = partial(scorer.best_pooled_matches, query, pooled)
        three = partial(search, scorer, query, means, pooled, tokens)
        if reference is not None:  # numpy would take minutes
            print(f"    scan of all pooled vectors {timed(whole, device, searches)}")
        print(f"    the search in three steps  {timed(three, device, searches)}")
        if reference is None:
            reference = found, exact
            continue
        both, here, there = np.intersect1d(found, reference[0], return_indices=True)
        apart = float(np.abs(exact[here] - reference[1][there]).max())
        same = len(set(found[:10]) & set(reference[0][:10]))
        print(f"    against numpy: {len(both):,} scores at most {apart:.1e} apart, {same} of the best 10 the same")
        if apart > TOLERANCE:
            raise SystemExit("the scores are further apart than the stated tolerance")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"])
    parser.add_argument("--documents", type=int, help="default: 20,000 on cuda, else 64; 0: search alone")
    parser.add_argument("--length", type=int, default=300, help="tokens of a document, special ones included")
    parser.add_argument("--chunks", type=int, help="default: 1,000,000 on cuda, else 20,000")
    parser.add_argument("--searches", type=int, default=20)
    parser.add_argument("--batches", type=int, nargs="*", default=[0], help="tokens; 0: what the product takes")
    options = parser.parse_args()
    device = choose_device(options.device)
    large = device == "cuda"
    named = torch.cuda.get_device_name() if large else f"{torch.get_num_threads()} threads"
    print(f"device {device} ({named}), torch {torch.__version__}")
    documents = (20_000 if large else 64) if options.documents is None else options.documents
    for name in SHAPES if documents else ():
        encoding(name, device, documents, options.length, options.batches)
    searching(device, options.chunks or (1_000_000 if large else 20_000), options.searches)


if __name__ == "__main__":
    main()
