"""Indexing against the model's bare forward pass and PyLate's encode, search latency, and disk use, in one run.

    python bench/throughput.py TREE [--sample 300] [--rounds 3] [--searches 50] [--index DIR]

Each figure comes in tokens (the chunks' own) per second of wall time and of processor time of all threads. The bare
pass and PyLate run in processes of their own, in turn, before and after the indexing run, with nothing of this project
in them but the same chunks, spread evenly over the tree; medians over all rounds. The bare pass has them tokenized and
sorted by length, in the number format and batches that are fastest for it; PyLate's ``encode`` has its
defaults. Queries are the first sentences of passages spread over the tree.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from colbert_mcp import Index
from colbert_mcp.chunking import cut_document
from colbert_mcp.config import Config, IndexConfig, ModelConfig
from colbert_mcp.documents import Discovery, Found, discover, read_document, real_path
from colbert_mcp.encoder.tokenizing import builtin_directory, builtin_tokenizer
from colbert_mcp.sentences import sentence_spans

Rates = dict[str, list[tuple[float, float]]]  # tokens per second of wall time, and of processor time


def sample_chunks(tree: Path, count: int) -> tuple[list[list[int]], list[str]]:
    """Chunks spread evenly over the tree: their token ids, and their texts."""
    tokenizer = builtin_tokenizer(ModelConfig())
    chunks, texts = [], []
    for found in discover(real_path(tree), Discovery(10_000_000, hidden=False)):
        if isinstance(found, Found):
            document = read_document(found.path, 10_000_000)
            for piece in cut_document(document, tokenizer):
                chunks.append(piece.tokens.ids)
                texts.append(document.text[piece.start : piece.end])
    kept = min(count, len(chunks))
    chosen = [round(place * (len(chunks) - 1) / max(1, kept - 1)) for place in range(kept)]
    return [chunks[place].tolist() for place in chosen], [texts[place] for place in chosen]


def measured(tokens: int, work: Callable[[], object]) -> tuple[float, float]:
    """Tokens per second of wall and of processor time."""
    wall, cpu = time.monotonic(), time.process_time()
    work()
    return tokens / (time.monotonic() - wall), tokens / (time.process_time() - cpu)


def bare(chunks: list[list[int]], dtype: str, rounds: int) -> list[tuple[float, float]]:
    """Nothing but the backbone, over the chunks sorted by length; the better of two sizes of batches."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    special = AutoTokenizer.from_pretrained(builtin_directory())
    first, last, fill = [special.cls_token_id], [special.sep_token_id], special.pad_token_id

    model = AutoModel.from_pretrained(builtin_directory(), dtype=getattr(torch, dtype)).eval()
    ordered = sorted(chunks, key=len, reverse=True)

    def forward(batches: list[list[list[int]]]) -> None:
        with torch.inference_mode():
            for batch in batches:
                length = len(batch[0]) + 2
                rows = [first + tokens + last + [fill] * (length - 2 - len(tokens)) for tokens in batch]
                ids = torch.tensor(rows)
                model(input_ids=ids, attention_mask=(ids != fill).long())

    found = []
    for size in (1_024, 4_096):
        batches = list(batched_by_tokens(ordered, size))
        forward(batches)
        found.append([measured(sum(map(len, chunks)), partial(forward, batches)) for _ in range(rounds)])
    return max(found, key=median)


def batched_by_tokens(ordered: list[list[int]], size: int) -> Iterator[list[list[int]]]:
    """Batches of at most ``size`` tokens, padding included, of chunks sorted from long to short."""
    position = 0
    while position < len(ordered):
        batch = ordered[position : position + max(1, size // (len(ordered[position]) + 2))]
        yield batch
        position += len(batch)


def pylate(tokens: int, texts: list[str], model: str, rounds: int) -> list[tuple[float, float]]:
    """``ColBERT.encode`` with its defaults over the texts in the order of the tree."""
    from pylate.models import ColBERT

    loaded = ColBERT(model, device="cpu")
    loaded.encode(texts[:32], is_query=False, show_progress_bar=False)
    return [
        measured(tokens, lambda: loaded.encode(texts, is_query=False, show_progress_bar=False)) for _ in range(rounds)
    ]


def in_turn(work: Path, rounds: int, rates: Rates) -> None:
    """Add a turn of each of the other measurements."""
    for step in ("float32", "bfloat16", "pylate"):
        command = [sys.executable, __file__, str(work), "--step", step, "--rounds", str(rounds)]
        line = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        rates.setdefault(step, []).extend(tuple(rate) for rate in json.loads(line.stdout.splitlines()[-1]))


def run_step(step: str, work: Path, rounds: int) -> None:
    """What a process of its own measures, as a line of JSON."""
    chunks, texts = json.loads((work / "sample.json").read_text())
    if step == "pylate":
        rates = pylate(sum(map(len, chunks)), texts, str(work / "model"), rounds)
    else:
        rates = bare(chunks, step, rounds)
    print(json.dumps(rates))


def median(rates: list[tuple[float, float]]) -> tuple[float, float]:
    """Of wall and of processor time, each."""
    wall, cpu = zip(*rates, strict=True)
    return statistics.median(wall), statistics.median(cpu)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--sample", type=int, default=300, help="chunks of the bare pass and of PyLate")
    parser.add_argument("--rounds", type=int, default=3, help="of each, before and again after the indexing run")
    parser.add_argument("--searches", type=int, default=50)
    parser.add_argument("--index", type=Path, help="an index to make or to go on with (default: a temporary one)")
    parser.add_argument("--step", choices=["float32", "bfloat16", "pylate"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        run_step(options.step, options.tree, options.rounds)
        return
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        chunks, texts = sample_chunks(options.tree, options.sample)
        (work / "sample.json").write_text(json.dumps([chunks, texts]))
        from colbert_mcp.encoder.exporting import make_head  # torch and pylate load here

        make_head(builtin_directory(), work / "model", 128)
        rates: Rates = {}
        in_turn(work, options.rounds, rates)
        directory = options.index or work / "index"
        with Index.open(config=Config(index=IndexConfig(path=str(directory)))) as index:
            index.warm_up()
            cpu = time.process_time()
            run = index.index_path(options.tree)
            cpu = time.process_time() - cpu
            in_turn(work, options.rounds, rates)
            if run.tokens:
                own = run.tokens / run.seconds, run.tokens / cpu
                print(f"indexing  {run.chunks:,} chunks, {run.tokens:,} tokens in {run.seconds:.0f} s", end=", ")
                print(f"{run.indexed / run.seconds:.2f} files/s, {run.chunks / run.seconds:.1f} chunks/s")
                best = max(("float32", "bfloat16"), key=lambda dtype: median(rates[dtype]))
                print("          tokens/s of wall time, of processor time; share of ours")
                print(f"          {'indexing':17} {own[0]:9,.0f} {own[1]:9,.0f}")
                for name, label in ((best, f"bare {best}"), ("pylate", "PyLate encode")):
                    wall, busy = median(rates[name])
                    print(f"          {label:17} {wall:9,.0f} {busy:9,.0f}", end="")
                    print(f"   ratio {own[0] / wall:.2f} and {own[1] / busy:.2f}")
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
