"""Encoding and search on a device against the rate at which it multiplies matrices; random models, no download.

    python bench/gpu.py [--device auto] [--documents N] [--length 300] [--chunks N] [--searches 20]

Two models are written with random weights, in the shape of ModernBERT-base and of all-MiniLM-L6, and loaded and run by
the encoder as any other. The share is their arithmetic (two operations a weight and token, and attention) over the
device's own matrix-product rate in the same number format. Search: the pooled scan and exact MaxSim over synthetic
chunks (16 pooled vectors and 200 tokens each, 128 dimensions, int8), by numpy as the product does it and by torch on
the device; the two must agree. Exact MaxSim reads the tokens of as many chunks as a search would (.033 of the index, at
least 400).
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModel, BertConfig, ModernBertConfig, PreTrainedConfig

from colbert_mcp.config import ModelConfig
from colbert_mcp.encoder import Tokenized, load_encoder
from colbert_mcp.encoder.colbert import ColBERTEncoder
from colbert_mcp.encoder.hardware import choose_device
from colbert_mcp.encoder.tokenizing import builtin_directory
from colbert_mcp.maxsim import TokenMatrix, maxsim, maxsim_pooled

DIMENSION, POOLED, CHUNK_TOKENS, QUERY_TOKENS = 128, 16, 200, 32
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


def encoding(name: str, device: str, documents: int, length: int) -> None:
    """Documents and tokens per second of one shape, and the share of the device's matrix-product rate."""
    config = SHAPES[name]
    with tempfile.TemporaryDirectory() as scratch:
        weights = write_model(config, Path(scratch), length)
        batch_tokens = 4096 if device == "cpu" else 65_536
        encoder = load_encoder(ModelConfig(name=scratch, device=device, batch_tokens=batch_tokens))
        if not isinstance(encoder, ColBERTEncoder):
            raise SystemExit("not the encoder that this measures")
        chance = np.random.default_rng(0)
        own = encoder.content_length
        texts = [
            Tokenized(chance.integers(1000, 30_000, own), np.arange(own), np.arange(own) + 1) for _ in range(documents)
        ]
        encoder.encode_documents(texts[: max(8, documents // 10)])
        started = time.monotonic()
        encoder.encode_documents(texts)
        seconds = time.monotonic() - started
        dtype = getattr(torch, encoder.dtype)
    tokens = documents * length
    a_token = 2 * weights + 4 * length * config.hidden_size * config.num_hidden_layers
    rate, done = product_rate(device, dtype), a_token * tokens / seconds
    print(
        f"{name:16} {encoder.dtype:9} {documents / seconds:10,.1f} documents/s {tokens / seconds:12,.0f} tokens/s, "
        f"{done / 1e12:.2f} of {rate / 1e12:.2f} TFLOP/s = {done / rate:.2f}"
    )


def scan(query: torch.Tensor, pooled: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """``maxsim_pooled`` in torch: query [q, d], pooled int8 [n, k, d], scales [n, k]; float [n], divided by q."""
    scores = []
    for start in range(0, len(pooled), 65_536):
        block = pooled[start : start + 65_536]
        products = (block.reshape(-1, block.shape[-1]).to(query.dtype) @ query.T).float()
        products *= scales[start : start + 65_536].reshape(-1, 1)
        scores.append(products.reshape(len(block), -1, len(query)).amax(dim=1).mean(dim=1))
    return torch.cat(scores)


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


def searching(device: str, chunks: int, searches: int) -> None:
    """Latency of the pooled scan and of exact MaxSim, by numpy and by torch on the device."""
    chance = np.random.default_rng(0)
    query = chance.standard_normal((QUERY_TOKENS, DIMENSION)).astype(np.float32)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    pooled = chance.integers(-127, 128, (chunks, POOLED, DIMENSION), np.int8)
    scales = np.full((chunks, POOLED), 1 / 900, np.float16)
    candidates = min(chunks, max(400, round(0.033 * chunks)))
    tokens = chance.integers(-127, 128, (candidates * CHUNK_TOKENS, DIMENSION), np.int8)
    matrix = TokenMatrix(tokens, np.full(len(tokens), 1 / 900, np.float16), np.arange(candidates + 1) * CHUNK_TOKENS)
    format_ = torch.float16 if device == "cuda" else torch.float32
    on_device = torch.from_numpy(query).to(device, format_)
    far = torch.from_numpy(pooled).to(device), torch.from_numpy(scales.astype(np.float32)).to(device)
    near = torch.from_numpy(tokens).to(device).reshape(candidates, CHUNK_TOKENS, DIMENSION)
    near_scales = torch.full((candidates, CHUNK_TOKENS), 1 / 900, device=device)
    for own, other in (
        (maxsim_pooled(query, pooled, scales), scan(on_device, *far)),
        (maxsim(query, matrix), scan(on_device, near, near_scales)),
    ):
        apart = float(np.abs(own - other.cpu().numpy()).max())
        if apart > 5e-3:
            raise SystemExit(f"the device's scores are {apart} apart from numpy's")
    print(f"search over {chunks:,} chunks ({pooled.nbytes / 1e9:.2f} GB pooled), {candidates:,} scored exactly:")
    print(f"  pooled scan    numpy {timed(lambda: maxsim_pooled(query, pooled, scales), 'cpu', searches)}")
    print(f"  pooled scan {device:>8} {timed(lambda: scan(on_device, *far), device, searches)}")
    print(f"  exact MaxSim   numpy {timed(lambda: maxsim(query, matrix), 'cpu', searches)}")
    print(f"  exact MaxSim {device:>7} {timed(lambda: scan(on_device, near, near_scales), device, searches)}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "mps", "cpu"])
    parser.add_argument("--documents", type=int, help="default: 20,000 on cuda, else 64")
    parser.add_argument("--length", type=int, default=300, help="tokens of a document, special ones included")
    parser.add_argument("--chunks", type=int, help="default: 1,000,000 on cuda, else 20,000")
    parser.add_argument("--searches", type=int, default=20)
    options = parser.parse_args()
    device = choose_device(options.device)
    large = device == "cuda"
    named = torch.cuda.get_device_name() if large else f"{torch.get_num_threads()} threads"
    print(f"device {device} ({named}), torch {torch.__version__}")
    for name in SHAPES:
        encoding(name, device, options.documents or (20_000 if large else 64), options.length)
    searching(device, options.chunks or (1_000_000 if large else 20_000), options.searches)


if __name__ == "__main__":
    main()
