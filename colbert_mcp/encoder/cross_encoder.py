"""Reads a query and a passage together with a cross-encoder, which gives the pair one score.

Loaded by transformers itself, which Sentence Transformers' CrossEncoder would do too: it tells which weights came from
no file, and nothing that a checkpoint names is imported. Scores equal ``CrossEncoder.predict`` where that cuts nothing
(tested); a passage that is longer than the window is read in several, and has the best of their scores.
"""

import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from colbert_mcp.config import ModelConfig
from colbert_mcp.encoder.allocation import keep_freed_memory, return_freed_memory
from colbert_mcp.encoder.batching import Batch, Budget, Waiting
from colbert_mcp.encoder.hardware import choose_batch_tokens, choose_device, choose_dtype, is_out_of_memory
from colbert_mcp.encoder.passes import THREADS, Sharing, at_once, computing_on, share
from colbert_mcp.encoder.pylate_loading import brief, silence_loading
from colbert_mcp.encoder.reranking import CrossEncoderCheckpoint
from colbert_mcp.encoder.weights import check_all_layers, check_vocabulary
from colbert_mcp.errors import EncoderError

_STEPS = (16, 1)  # lengths and rows are rounded up to; see ``batching``
_OVERLAP = 4  # consecutive windows share a quarter of a passage's room
_LEAST_ROOM = 8  # tokens for a passage beside the longest query
_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
_TRIAL = ("What is read?", ["A passage.", "Another passage, which is longer."])


def load_cross_encoder(checkpoint: CrossEncoderCheckpoint, name: str, config: ModelConfig) -> "CrossEncoderReranker":
    """Load a judged cross-encoder, and try it; raises EncoderError."""
    silence_loading()
    directory = checkpoint.directory
    device = choose_device(config.device)
    own: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        model, found = AutoModelForSequenceClassification.from_pretrained(
            str(directory), use_safetensors=True, dtype=torch.float32, output_loading_info=True, **own
        )
        tokenizer = AutoTokenizer.from_pretrained(str(directory), **own)
        _check_inputs(tokenizer, directory)
        random = sorted(found["missing_keys"])
        if random:
            raise EncoderError(
                f"The weights of the reranker in {directory} lack {len(random)} tensors (such as {random[0]}), which "
                "would be random."
            )
        names = [name for name, _ in model.named_parameters()]
        check_all_layers(names, str(model.base_model_prefix), directory, "reranker")
        check_vocabulary(tokenizer, model, directory, "reranker")
        reranker = CrossEncoderReranker(model.to(device), tokenizer, checkpoint, name, config)
        reranker.scores(*_TRIAL)
    except EncoderError:
        raise
    except Exception as error:  # a stranger's numbers reach every line of the loader
        raise EncoderError(f"Cannot load the reranker in {directory}: {brief(error)}") from error
    return reranker


def _check_inputs(tokenizer: Any, directory: Path) -> None:
    """Raise EncoderError where the tokenizer would leave out what tells a text from the padding behind it."""
    names = list(tokenizer.model_input_names)
    if names[:1] != ["input_ids"] or "attention_mask" not in names or not _INPUTS.issuperset(map(str, names)):
        raise EncoderError(
            f"The tokenizer of the reranker in {directory} gives the inputs {names}; input_ids and attention_mask are "
            f"needed, and no others are known than {', '.join(sorted(_INPUTS))} (model_input_names in "
            "tokenizer_config.json)."
        )


class CrossEncoderReranker:
    """The Reranker that transformers runs; one query at a time."""

    def __init__(
        self, model: Any, tokenizer: Any, checkpoint: CrossEncoderCheckpoint, name: str, config: ModelConfig
    ) -> None:
        self._model = model.eval()
        self._tokenizer = tokenizer
        self._device = torch.device(model.device)
        self._dtype = choose_dtype(config.dtype, self._device.type)
        _halve(model, self._dtype)
        if self._device.type == "cpu":
            keep_freed_memory()
        self._tokens = choose_batch_tokens(config.batch_tokens, self._device.type)
        self._threads = config.threads or THREADS
        self._activation = {"Sigmoid": torch.nn.Sigmoid(), "Identity": torch.nn.Identity()}[checkpoint.activation]
        self._lock = threading.Lock()  # over the tokenizer, whose truncation is a state of it, and over a GPU
        self.name = name
        self.window = checkpoint.window
        room = self.window - int(tokenizer.num_special_tokens_to_add(pair=True))
        # Half of what there is, so that passages are read and not only the query.
        self._query_room = room // 2
        if self._query_room < _LEAST_ROOM:
            raise EncoderError(f"The reranker in {checkpoint.directory} reads {self.window} tokens, which is too few.")

    @property
    def device(self) -> str:
        """Where the model runs: ``cpu``, ``cuda`` or ``mps``."""
        return str(self._device.type)

    @property
    def dtype(self) -> str:
        """The backbone's number format."""
        return str(self._dtype).removeprefix("torch.")

    def unread(self, query: str) -> str:
        """The tail of a query that is longer than the model reads beside a passage, "" if all of it is read."""
        with self._lock:
            return query[self._read(query) :]

    def scores(self, query: str, passages: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [n]: how well each passage answers the query, higher is better.

        In double precision, in which a sigmoid tells scores near 1 apart. Raises EncoderError where memory is too
        little, or the model gives no numbers.
        """
        if not passages:
            return np.zeros(0)
        with self._lock:
            windows, members = self._windows(query, passages)
            logits = self._logits(windows)
            if self._device.type == "cpu":
                return_freed_memory()
        if not torch.isfinite(logits).all():
            raise EncoderError(f"The reranker {self.name} gives no numbers in {self.dtype}; set [model] dtype.")
        best = torch.full((len(passages),), -torch.inf, dtype=torch.float64)
        best.scatter_reduce_(0, members, logits, "amax")
        scores: npt.NDArray[np.float64] = self._activation(best).numpy()
        return scores

    def _read(self, query: str) -> int:
        """How many characters of a query are read."""
        found = self._tokenizer(query, add_special_tokens=False, return_offsets_mapping=True, truncation=False)
        offsets = found["offset_mapping"]
        return len(query) if len(offsets) <= self._query_room else int(offsets[self._query_room][0])

    def _windows(self, query: str, passages: Sequence[str]) -> tuple[list[dict[str, list[int]]], torch.Tensor]:
        """The inputs for each pair, at least one a passage, and of which passage each is: int64 [windows]."""
        read = query[: self._read(query)]
        room = self.window - len(self._tokenizer(read, "")["input_ids"])
        found = self._tokenizer(
            [read] * len(passages),
            list(passages),
            truncation="only_second",
            max_length=self.window,
            stride=room // _OVERLAP,
            return_overflowing_tokens=True,
        )
        members = torch.tensor(found.pop("overflow_to_sample_mapping"), dtype=torch.int64)
        return [{key: values[index] for key, values in found.items()} for index in range(len(members))], members

    def _logits(self, windows: Sequence[Mapping[str, list[int]]]) -> torch.Tensor:
        """float64 [windows]: what the head gives each input, on the processor."""
        lengths = [len(window["input_ids"]) for window in windows]
        on_cpu = self.device == "cpu"
        sharing = (
            share(self._tokens, max(lengths), self._threads) if on_cpu else Sharing(1, self._tokens, self._threads)
        )
        waiting = Waiting(lengths, Budget(self._tokens), sharing.tokens, self.window, _STEPS)
        logits = torch.zeros(len(windows), dtype=torch.float64)

        def work() -> None:
            while (batch := waiting.take()) is not None:
                logits[batch.members] = self._forward(windows, batch)

        # A thread made beside passes that run at once has their count.
        with computing_on(self._threads) if on_cpu else nullcontext():
            at_once(work, sharing, self._threads, waiting.stop)
        return logits

    def _forward(self, windows: Sequence[Mapping[str, list[int]]], batch: Batch) -> torch.Tensor:
        features = self._tokenizer.pad(
            [windows[index] for index in batch.members],
            padding="max_length",
            max_length=batch.length,
            return_tensors="pt",
        )
        try:
            with torch.inference_mode():
                return self._model(**features.to(self._device)).logits[:, 0].float().cpu().double()  # type: ignore[no-any-return]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise EncoderError(
                f"The memory of {self.device} is too little for the reranker; set [model] batch_tokens lower than "
                f'{self._tokens}, device = "cpu", or [search] reranker = "".'
            ) from error


def _halve(model: Any, dtype: torch.dtype) -> None:
    """Have the backbone compute in a number format, and the head in float32: its output is what is compared."""
    if model.base_model is model:
        return
    model.base_model.to(dtype)
    for child in model.children():
        if child is not model.base_model:
            child.register_forward_pre_hook(_in_full_precision)


def _in_full_precision(_: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value for value in inputs
    )
