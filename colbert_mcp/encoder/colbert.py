"""Encodes with PyLate's ColBERT: batches by tokens, no padding in any result, float32 out.

Documents come already tokenized, so nothing is truncated in silence and each row can be traced to its characters; the
embeddings equal ``ColBERT.encode`` (tested). Knows nothing of files, spans in files, or the index.
"""

import logging
import sys
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pylate.models import ColBERT
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from colbert_mcp.config import ModelConfig
from colbert_mcp.encoder.allocation import keep_freed_memory, return_freed_memory
from colbert_mcp.encoder.base import Encoded, Fingerprint, Query, Tokenized, count_coverage
from colbert_mcp.encoder.batching import Pass, Sharing, as_pass, at_once, batches, padded, share
from colbert_mcp.encoder.checkpoint import Checkpoint
from colbert_mcp.encoder.hardware import choose_device, choose_dtype, is_out_of_memory, release_memory
from colbert_mcp.encoder.settings import Settings
from colbert_mcp.encoder.tokenizing import ExactTokenizer, readable
from colbert_mcp.encoder.weights import is_pooler, tensor_shapes, unmatched, weights_file
from colbert_mcp.errors import EncoderError
from colbert_mcp.types import Coverage

_LOADING_ERRORS = (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError, AttributeError, SafetensorError)
_log = logging.getLogger(__name__)


def load_checkpoint(checkpoint: Checkpoint, settings: Settings, config: ModelConfig) -> "ColBERTEncoder":
    """Load a judged PyLate, Sentence Transformers or Stanford ColBERT checkpoint through PyLate's own loader.

    Its code runs if it has any: the caller has seen to it that it may. Raises EncoderError.
    """
    silence_loading()
    trusted = bool(checkpoint.code)
    foreign = {"code_revision": config.code_revision} if checkpoint.code.repositories else {}
    try:
        model = ColBERT(
            str(checkpoint.directory),
            device=choose_device(config.device),
            local_files_only=True,
            trust_remote_code=trusted,
            model_kwargs={**foreign, "use_safetensors": True},
            tokenizer_kwargs={**foreign},
            config_kwargs={**foreign},
            **pylate_arguments(settings),
        )
    except _LOADING_ERRORS as error:
        raise EncoderError(f"Cannot load the model in {checkpoint.directory}: {error}") from error
    except Exception as error:
        if not trusted:
            raise
        raise EncoderError(f"The code of the model in {checkpoint.directory} failed: {error}") from error
    if len(model) != checkpoint.modules:
        raise EncoderError(f"The model in {checkpoint.directory} has modules that PyLate leaves out.")
    if not checkpoint.code:
        _check_backbone(model[0].auto_model, checkpoint.backbone)
    return ColBERTEncoder(
        model,
        config,
        name=config.name,
        digest=checkpoint.digest,
        settings=settings,
        dense_before_projection=False,
        own_code=trusted,
    )


def pylate_arguments(settings: Settings) -> dict[str, Any]:
    """Settings in PyLate's words. All are given, so that nothing is decided elsewhere."""
    return {
        "query_prefix": settings.query_prefix.value,
        "document_prefix": settings.document_prefix.value,
        "query_length": settings.query_length.value,
        "document_length": settings.document_length.value,
        "do_query_expansion": settings.do_query_expansion.value,
        "attend_to_expansion_tokens": settings.attend_to_expansion_tokens.value,
        "skiplist_words": list(settings.skiplist_words.value),
    }


def _check_backbone(backbone: Any, directory: Path) -> None:
    """Raise EncoderError where a part of the backbone came from no file: it would be random, in silence."""
    names = [name for name, _ in backbone.named_parameters()]
    if not unmatched(names, str(backbone.base_model_prefix), tensor_shapes(weights_file(directory))):
        return
    # Names may have been translated while loading: the loader itself knows.
    _, found = type(backbone).from_pretrained(str(directory), local_files_only=True, output_loading_info=True)
    random = [name for name in sorted(found["missing_keys"]) if not is_pooler(name)]
    if random:
        raise EncoderError(
            f"The weights in {directory} lack {len(random)} tensors of its backbone (such as {random[0]}), which would "
            "be random."
        )


def silence_loading() -> None:
    """No progress bars and no reports of unused tensors on the terminal; errors still show."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in ("pylate", "sentence_transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)


class ColBERTEncoder:
    """The Encoder that PyLate runs."""

    def __init__(
        self,
        model: ColBERT,
        config: ModelConfig,
        *,
        name: str,
        digest: str,
        settings: Settings,
        dense_before_projection: bool,
        own_code: bool = False,
    ) -> None:
        """``own_code``: the backbone runs code that came with the checkpoint."""
        self._model = model.eval()
        self.backbone = model[0]
        # Checkpoints in half precision come with projections in it, too.
        self._projections = [model[index].float() for index in range(1, len(model))]
        self._dense_before_projection = dense_before_projection
        self._batch_tokens = config.batch_tokens
        self._device = torch.device(model.device)
        self._dtype = choose_dtype(config.dtype, self._device.type)
        # Only the backbone runs in half precision: the projection is cheap and its output is what is compared.
        self.backbone.to(self._dtype)
        self._tokenizing = threading.Lock()
        if self._device.type == "cpu":
            keep_freed_memory()
        if config.threads:
            torch.set_num_threads(config.threads)
        self._threads = torch.get_num_threads()
        # Foreign code may keep state in its modules, and a GPU is shared out by its driver.
        self._alone = None if self._device.type == "cpu" and not own_code else threading.Lock()
        self._tokens = _tokens_of(model)
        self._lead, self._tail = self._tokens.lead, self._tokens.tail
        self._unknown = getattr(model.tokenizer, "unk_token_id", None)
        self._skiplist = np.array([token for token in model.skiplist if token is not None], np.int64)
        self.settings = settings
        self.notices = settings.notices
        self.window = sys.maxsize if settings.window.value is None else settings.window.value
        dimension = self._projections[-1].out_features
        self.fingerprint = Fingerprint(
            model=name,
            digest=digest,
            dimension=dimension,
            dense_dimension=self._projections[0].in_features if dense_before_projection else dimension,
            document_prefix=model.document_prefix,
            document_length=model.document_length,
            skiplist=tuple(model.skiplist_words),
        )

    @property
    def content_length(self) -> int:
        """Tokens of its own text that a document may have."""
        prefix = self._model.document_prefix_id is not None
        return int(self._model.document_length) - len(self._lead) - len(self._tail) - prefix

    @property
    def device(self) -> str:
        """Where the model runs: ``cpu``, ``cuda`` or ``mps``."""
        return str(self._device.type)

    @property
    def dtype(self) -> str:
        """The backbone's number format."""
        return str(self._dtype).removeprefix("torch.")

    def tokenize(self, texts: Sequence[str]) -> list[Tokenized]:
        """Each text's tokens, tokenized on its own, without special tokens or truncation."""
        return self._tokens.tokenize(texts)

    def encode_documents(self, documents: Sequence[Tokenized]) -> list[Encoded]:
        """Embeddings in the order given; batches are sorted by length, so that little is padded."""
        too_long = next((len(d.ids) for d in documents if len(d.ids) > self.content_length), None)
        if too_long is not None:
            raise EncoderError(f"A chunk of {too_long} tokens does not fit document_length; nothing is truncated.")
        inputs = [self._document_input(document) for document in documents]
        lengths = [len(ids) for ids in inputs]
        sharing = (
            share(self._batch_tokens, max(lengths, default=0), self._threads)
            if self._alone is None
            else Sharing(1, self._batch_tokens, self._threads)
        )
        passes = batches(lengths, sharing.tokens, self.window)
        found = at_once(lambda item: self._encode_pass(item, inputs), passes, sharing, self._threads)
        if self._device.type == "cpu":
            return_freed_memory()
        results = {index: encoded for part in found for index, encoded in part}
        return [results[index] for index in range(len(inputs))]

    def _encode_pass(self, chosen: Pass, inputs: Sequence[npt.NDArray[np.int64]]) -> list[tuple[int, Encoded]]:
        """The embeddings of a pass's texts with their places, in two halves where memory is too little for all."""
        members = chosen.members
        features = padded([inputs[index] for index in members], chosen.rows, chosen.length)
        embedded = self._forward_or_back_off(len(members), features)
        if embedded is None:
            halves = members[: len(members) // 2], members[len(members) // 2 :]
            smaller = [as_pass(half, chosen.length, self._batch_tokens) for half in halves]
            return [item for half in smaller for item in self._encode_pass(half, inputs)]
        states, tokens = embedded
        found = []
        for row, index in enumerate(members):
            length = len(inputs[index])
            kept = tokens[row, :length][self._kept(inputs[index])]
            found.append((index, Encoded(kept, self._dense(states[row, :length], kept))))
        return found

    def _forward_or_back_off(
        self, count: int, features: dict[str, torch.Tensor]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
        """What ``_forward`` gives, or None where memory was too little for a batch of ``count``: then half is to be
        tried, and later batches are smaller. Raises EncoderError where it is too little for a single text.
        """
        try:
            return self._forward(features)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if count == 1:
                length = features["input_ids"].shape[1]
                raise EncoderError(
                    f"The memory of {self.device} is too little for a text of {length} tokens; set [model] "
                    'document_length lower, or device = "cpu".'
                ) from error
        release_memory(self.device)
        self._batch_tokens = max(self._batch_tokens // 2, 1)
        _log.warning("Too little memory on %s: batches of %d tokens from now on.", self.device, self._batch_tokens)
        return None

    def encode_query(self, text: str) -> Query:
        """Embeddings of a query, with PyLate's own query tokenization (prefix, expansion, truncation)."""
        return self.encode_queries([text])[0]

    def encode_queries(self, texts: Sequence[str]) -> list[Query]:
        """Embeddings of some queries, encoded in one batch."""
        if self._device.type == "cpu":
            torch.set_num_threads(self._threads)  # a thread made beside passes that run at once has theirs
        with self._tokenizing:
            features = self._model.tokenize(list(map(readable, texts)), is_query=True)
        ids, attention = features["input_ids"].numpy(), features["attention_mask"].numpy().astype(bool)
        wanted = {name: features[name] for name in ("input_ids", "attention_mask")}
        embedded = self._forward_or_back_off(len(texts), wanted)
        if embedded is None:
            middle = len(texts) // 2
            return [*self.encode_queries(texts[:middle]), *self.encode_queries(texts[middle:])]
        states, embeddings = embedded
        return [
            self._query(text, ids[row], attention[row], states[row], embeddings[row]) for row, text in enumerate(texts)
        ]

    def _query(
        self,
        text: str,
        ids: npt.NDArray[np.int64],
        attention: npt.NDArray[np.bool_],
        states: npt.NDArray[np.float32],
        embeddings: npt.NDArray[np.float32],
    ) -> Query:
        own = self._model.query_length - len(self._lead) - len(self._tail) - (self._model.query_prefix_id is not None)
        stripped = text.strip()  # as PyLate does
        tokens = self.tokenize([stripped])[0]
        unread = stripped[int(tokens.starts[own]) :] if len(tokens.ids) > own else ""
        rows = np.ones_like(attention) if self._model.do_query_expansion else attention
        kept = embeddings[rows]
        spans = self._query_spans(text, ids[: int(rows.sum())])
        return Query(kept, self._dense(states[attention], kept), unread, spans, self._names(ids[rows]))

    def kept_spans(self, document: Tokenized) -> npt.NDArray[np.int64]:
        """int64 [n, 2]: the characters of each row of the document's token embeddings; (0, 0) for special tokens."""
        prefix = self._model.document_prefix_id
        return self._input_spans(document, prefix)[self._kept(self._document_input(document))]

    def kept_tokens(self, document: Tokenized) -> tuple[str, ...]:
        """The names in the vocabulary of the rows of the document's token embeddings."""
        ids = self._document_input(document)
        return self._names(ids[self._kept(ids)])

    def coverage(self, document: Tokenized, text: str) -> Coverage:
        """How much of a text, of which these are the tokens, its embeddings do not hold."""
        unknown = document.ids == (-1 if self._unknown is None else self._unknown)
        return count_coverage(document, text, unknown, ~self._kept(document.ids))

    def _query_spans(self, text: str, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """int64 [len(ids), 2]: the query's characters under each token that PyLate made (it strips blanks first)."""
        stripped = text.strip()
        tokens = self.tokenize([stripped])[0]
        prefix = self._model.query_prefix_id
        own = len(ids) - len(self._lead) - len(self._tail) - (prefix is not None)
        tokens = Tokenized(tokens.ids[:own], tokens.starts[:own], tokens.ends[:own])
        shift = text.index(stripped) if stripped else 0
        spans = np.zeros((len(ids), 2), np.int64)
        known = self._input_spans(tokens, prefix)
        spans[: len(known)] = np.where(known[:, 1:] > 0, known + shift, 0)
        return spans

    def _input_spans(self, document: Tokenized, prefix_id: int | None) -> npt.NDArray[np.int64]:
        """int64 [n, 2]: the characters under each token of the model's input; (0, 0) for special tokens."""
        spans = np.stack([document.starts, document.ends], axis=1)
        lead, tail = (np.zeros((len(special), 2), np.int64) for special in (self._lead, self._tail))
        return self._with_prefix(np.concatenate([lead, spans, tail]), None if prefix_id is None else 0)

    def _names(self, ids: npt.NDArray[np.int64]) -> tuple[str, ...]:
        return tuple(map(self._tokens.name, ids.tolist()))

    def _document_input(self, document: Tokenized) -> npt.NDArray[np.int64]:
        return self._with_prefix(np.concatenate([self._lead, document.ids, self._tail]), self._model.document_prefix_id)

    def _with_prefix(self, tokens: npt.NDArray[np.int64], value: int | None) -> npt.NDArray[np.int64]:
        """PyLate puts the prefix after the first token, whatever that is; None is no prefix."""
        return tokens if value is None else np.insert(tokens, 1, value, axis=0)

    def _kept(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        return ~np.isin(ids, self._skiplist)

    def _forward(self, features: dict[str, torch.Tensor]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """States before the projection and normalised token embeddings, float32 [b, t, h] and [b, t, d]."""
        features = {name: tensor.to(self._device) for name, tensor in features.items()}
        with self._alone or nullcontext(), torch.inference_mode():
            features = self.backbone(features)
            states = features["token_embeddings"].float()
            features["token_embeddings"] = states
            for projection in self._projections:
                features = projection(features)
            tokens = torch.nn.functional.normalize(features["token_embeddings"], p=2, dim=-1)
            return states.cpu().numpy(), tokens.cpu().numpy()

    def _dense(self, states: npt.NDArray[np.float32], kept: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        mean: npt.NDArray[np.float32] = (states if self._dense_before_projection else kept).mean(axis=0)
        mean /= max(float(np.linalg.norm(mean)), 1e-12)
        return mean


def _tokens_of(model: ColBERT) -> ExactTokenizer:
    """A copy of the model's tokenizer that no other caller switches truncation or padding on."""
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise EncoderError("The model's tokenizer has no fast version, so tokens cannot be traced to characters.")
    if getattr(model[0], "do_lower_case", False):
        raise EncoderError("The model lower-cases outside its tokenizer, so tokens cannot be traced to characters.")
    return ExactTokenizer(backend)
