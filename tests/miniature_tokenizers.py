"""Small tokenizers of every family that checkpoints bring, each in the layout of a real one, made on the spot."""

import json
import struct
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import miniature
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

PROSE = [
    "The mill by the water. Bread of the field is good! It is naïve, größer, and fiancée: 1 2 3.",
    "漢字の文。次の文は「はい。」と言った。東京に行く。",
    "สวัสดีชาวโลก ภาษาไทย",
    "اللغة العربية جميلة",
    "हिन्दी भाषा है। क्षत्रिय",
    "The water and the bread, the field and the mill; the the water bread",
]
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def wordpiece(*, lowercase: bool) -> Tokenizer:
    """BERT: Chinese characters apart; uncased ones lose their accents too, by decomposition."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = sorted({letter for line in PROSE[:1] + PROSE[3:] for letter in line.lower() + line if letter.strip()})
    jamo = [chr(code) for code in (*range(0x1100, 0x1113), *range(0x1161, 0x1176), *range(0x11A8, 0x11C3))]
    pieces = [
        *special,
        *letters,
        *jamo,
        *(f"##{piece}" for piece in [*letters, *jamo]),
        "the",
        "water",
        "##ad",
        "東",
        "の",
    ]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _between(tokenizer, "[CLS] $A [SEP]")


def byte_level(*, prefix: bool, trim: bool, post: str) -> Tokenizer:
    """GPT-2's bytes: ``template`` as in ModernBERT, ``roberta`` and ``byte-level`` with a say over the offsets."""
    special = ["<s>", "</s>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix, trim_offsets=trim)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(PROSE * 5, trainer)
    if post == "template":
        tokenizer.normalizer = normalizers.NFC()
        return _between(tokenizer, "<s> $A </s>")
    if post == "roberta":
        tokenizer.post_processor = processors.RobertaProcessing(
            ("</s>", 1), ("<s>", 0), trim_offsets=trim, add_prefix_space=prefix
        )
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim, add_prefix_space=prefix)
    return tokenizer


def byte_fallback(space: str) -> Tokenizer:
    """Llama's BPE: ▁ for spaces, put by the ``normalizer``, by ``metaspace``, or as ``gemma`` does; bytes for the rest."""
    special = ["<unk>", "<s>", "</s>", *_BYTES]
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=380, special_tokens=special, show_progress=False)
    trained.train_from_iterator([PROSE[0], PROSE[5]] * 5, trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(models.BPE(model["vocab"], merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if space == "normalizer":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif space == "gemma":
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return _between(tokenizer, "<s> $A")


def unigram(normalizer: str, *, fallback: bool = False) -> Tokenizer:
    """SentencePiece: ``precompiled`` as in XLM-R, ``nfkc`` with Nmt, or ``stripped`` as in ALBERT."""
    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    chosen = {
        "precompiled": [normalizers.Precompiled(charsmap()), spaces],
        "nfkc": [normalizers.Nmt(), normalizers.NFKC(), spaces],
        "stripped": [normalizers.Strip(left=False, right=True), normalizers.Precompiled(charsmap()), spaces],
    }[normalizer]
    letters = sorted({letter for line in PROSE[:1] + PROSE[3:4] for letter in line if letter.strip()})
    words = ["▁", "▁the", "▁water", "ead", "ater", "▁fi", "のは", "ガ", "東京", "⁄", "é", "▁mill"]
    scored = [(piece, -4.0) for piece in words] + [(letter, -8.0) for letter in letters if letter not in words]
    first = [(piece, 0.0) for piece in [*_ROBERTA, *(_BYTES if fallback else [])]]
    tokenizer = Tokenizer(models.Unigram([*first, *scored], unk_id=3, byte_fallback=fallback))
    tokenizer.normalizer = normalizers.Sequence(chosen)
    metaspace = pre_tokenizers.Metaspace(prepend_scheme="always")
    apart = normalizer == "precompiled"
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace]) if apart else metaspace
    )
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    return _between(tokenizer, "<s> $A </s>")


def _between(tokenizer: Tokenizer, template: str) -> Tokenizer:
    special = [(piece, tokenizer.token_to_id(piece)) for piece in template.split() if piece != "$A"]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    return tokenizer


FAMILIES: Mapping[str, Callable[[], Tokenizer]] = {
    "WordPiece, uncased": cache(lambda: wordpiece(lowercase=True)),
    "WordPiece, cased": cache(lambda: wordpiece(lowercase=False)),
    "byte-level BPE, ModernBERT": cache(lambda: byte_level(prefix=False, trim=True, post="template")),
    "byte-level BPE, prefix space": cache(lambda: byte_level(prefix=True, trim=True, post="template")),
    "byte-level BPE, RoBERTa": cache(lambda: byte_level(prefix=True, trim=True, post="roberta")),
    "byte-level BPE, untrimmed": cache(lambda: byte_level(prefix=True, trim=False, post="byte-level")),
    "byte-level BPE, GPT-2": cache(lambda: byte_level(prefix=False, trim=True, post="byte-level")),
    "BPE with byte fallback, normalizer": cache(lambda: byte_fallback("normalizer")),
    "BPE with byte fallback, Metaspace": cache(lambda: byte_fallback("metaspace")),
    "BPE with byte fallback, Gemma": cache(lambda: byte_fallback("gemma")),
    "Unigram, XLM-R": cache(lambda: unigram("precompiled")),
    "Unigram, NFKC": cache(lambda: unigram("nfkc")),
    "Unigram, stripped": cache(lambda: unigram("stripped")),
    "Unigram with byte fallback": cache(lambda: unigram("nfkc", fallback=True)),
    "Unigram with byte fallback, precompiled": cache(lambda: unigram("precompiled", fallback=True)),
}


def pylate(directory: Path, family: str) -> Path:
    """A PyLate directory with the tokenizer of a family, and rows for all of its tokens."""
    miniature.pylate(directory)
    tokenizer = Tokenizer.from_str(FAMILIES[family]().to_str())
    tokenizer.add_special_tokens(["[unused0]", "[unused1]", "[MASK]"])
    names = {"mask_token": "[MASK]", "pad_token": "[MASK]"}
    unknown = next((piece for piece in ("[UNK]", "<unk>") if tokenizer.token_to_id(piece) is not None), None)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=unknown, **names).save_pretrained(directory)
    weights = load_file(directory / "model.safetensors")
    (name,) = (name for name in weights if name.endswith("word_embeddings.weight"))
    size = tokenizer.get_vocab_size()
    weights[name] = torch.randn(size, miniature.HIDDEN, generator=torch.Generator().manual_seed(0)) / 50
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "vocab_size": size}))
    return directory


@cache
def charsmap() -> bytes:
    """A SentencePiece map in the manner of nmt_nfkc: compatibility forms, blanks to spaces, controls to nothing."""
    alone = [*range(0xA0, 0x180), *range(0x1E00, 0x1E10), 0x2028, 0x2126, 0x3000, *range(0xFB00, 0xFB07)]
    alone += [*range(0xFF01, 0xFF5F), *range(0xFF66, 0xFFA0), 0x3300, 0xFDFA, 0x1D400]
    table = {chr(code): unicodedata.normalize("NFKC", chr(code)) for code in alone}
    for base in "aeiounAEcsḍ":
        for mark in "\u0301\u0302\u0308\u0323":
            table[base + mark] = unicodedata.normalize("NFKC", base + mark)
    table |= {
        half + "\uff9e": unicodedata.normalize("NFKC", half + "\uff9e") for half in map(chr, range(0xFF76, 0xFF85))
    }
    table |= {chr(code): "" for code in (*range(1, 9), 0xB, *range(0xE, 0x20), 0x7F, 0x8F)}
    table |= dict.fromkeys("\t\n\r\x0c\u00a0\u200b\u200c\u200e\u2028\u3000\ufeff", " ")
    return build_charsmap({source: target for source, target in table.items() if source != target})


def build_charsmap(table: Mapping[str, str]) -> bytes:
    """SentencePiece's format: the size of a double-array trie, the trie, and the targets, each ended by a NUL."""
    targets = bytearray()
    values: dict[bytes, int] = {}
    for source, target in sorted(table.items()):
        values[source.encode()] = len(targets)
        targets += target.encode() + b"\0"
    trie = _double_array(values)
    return struct.pack("<I", 4 * len(trie)) + struct.pack(f"<{len(trie)}I", *trie) + bytes(targets)


def _double_array(values: Mapping[bytes, int]) -> list[int]:
    """Units of 32 bits: a node's children stand at its base xor their byte, its value at the base itself."""
    children: dict[bytes, set[int]] = {}
    for key in values:
        for length in range(len(key)):
            children.setdefault(key[:length], set()).add(key[length])
    units: dict[int, int] = {0: 0}
    bases: set[int] = set()

    def place(node: bytes) -> int:
        following = sorted(children.get(node, ()))
        base = 1
        while base in bases or base in units or any(base ^ byte in units for byte in following):
            base += 1
        bases.add(base)
        units[base] = 1 << 31 | values.get(node, 0)
        units.update((base ^ byte, 0) for byte in following)
        for byte in following:
            child = node + bytes([byte])
            at = base ^ byte
            units[at] = (at ^ place(child)) << 10 | (child in values) << 8 | byte
        return base

    units[0] = place(b"") << 10
    return [units.get(at, 1 << 31) for at in range(max(units) + 256)]


def surface_of(tokenizer: Tokenizer, token: int) -> bytes | None:
    """What a token says, as UTF-8, with plain spaces; None for the unknown one and for added tokens."""
    piece = tokenizer.id_to_token(token)
    if token in tokenizer.get_added_tokens_decoder() or piece in ("[UNK]", "<unk>"):
        return None
    if isinstance(tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel):
        return bytes(_byte_alphabet()[letter] for letter in piece)
    if piece in _BYTES:
        return bytes([int(piece[3:5], 16)])
    if isinstance(tokenizer.model, models.WordPiece):
        return piece.removeprefix("##").encode()
    return piece.replace("▁", " ").encode()


@cache
def _byte_alphabet() -> Mapping[str, int]:
    """GPT-2's letters: printable Latin-1 stands for itself, the other bytes for letters from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {**{chr(byte): byte for byte in plain}, **{chr(0x100 + index): byte for index, byte in enumerate(rest)}}
