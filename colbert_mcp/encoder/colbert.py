"""Encodes with PyLate's ColBERT: batches by tokens, no padding in any result, float32 out.

Documents come already tokenized, so nothing is truncated in silence and each row can be traced to its characters; the
embeddings equal ``ColBERT.encode`` (tested). Knows nothing of files, spans in files, or the index.
"""

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from pylate.models import ColBERT

from colbert_mcp.config import ModelConfig
from colbert_mcp.encoder.allocation import keep_freed_memory, return_freed_memory
from colbert_mcp.encoder.base import Encoded, Fingerprint, Floats, Query, Tokenized, count_coverage, uncovered_parts
from colbert_mcp.encoder.batching import Budget, Ints, Waiting, padded
from colbert_mcp.encoder.hardware import choose_batch_tokens, choose_dtype, is_out_of_memory, release_memory
from colbert_mcp.encoder.inputs import Frame
from colbert_mcp.encoder.passes import Sharing, at_once, computing_on, query_threads, share
from colbert_mcp.encoder.scoring import scorer_for
from colbert_mcp.encoder.settings import Settings
from colbert_mcp.encoder.tokenizing import ExactTokenizer
from colbert_mcp.errors import EncoderError
from colbert_mcp.types import Coverage

_LENGTH_STEP, _ROWS_STEP = 16, 8
T = TypeVar("T")
_log = logging.getLogger(__name__)


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
        self._device = torch.device(model.device)
        self._budget = Budget(choose_batch_tokens(config.batch_tokens, self._device.type))
        self._dtype = choose_dtype(config.dtype, self._device.type)
        # Only the backbone runs in half precision: the projection is cheap and its output is what is compared.
        self.backbone.to(self._dtype)
        if self._device.type == "cpu":
            keep_freed_memory()
        if config.threads:
            torch.set_num_threads(config.threads)
        self._threads = torch.get_num_threads()
        self._parameters = sum(parameter.numel() for parameter in self.backbone.parameters())
        # Foreign code may keep state in its modules, and a GPU is shared out by its driver.
        self._alone = None if self._device.type == "cpu" and not own_code else threading.Lock()
        self._tokens = _tokens_of(model)
        self._document_frame, self._query_frame = _frames(model, self._tokens, settings)
        self._unknown = getattr(model.tokenizer, "unk_token_id", None)
        skiplist = [token for token in model.skiplist if token is not None]
        self._skipped = np.zeros(max(skiplist, default=0) + 2, np.bool_)  # by token; the last stands for all beyond
        self._skipped[skiplist] = True
        self.scorer = scorer_for(self._device.type)
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
        return self._document_frame.room

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
        inputs = [self._document_frame.ids(document) for document in documents]

        def finished(index: int, mean: Floats, tokens: Floats) -> Encoded:
            kept = tokens[self._kept(inputs[index])]
            return Encoded(kept, self._dense(mean, kept))

        longest = max(map(len, inputs), default=0)
        tokens = self._budget.tokens
        sharing = Sharing(1, tokens, self._threads) if self._alone else share(tokens, longest, self._threads)
        attentions = [np.ones(len(ids), np.int64) for ids in inputs]
        found = self._embedded(inputs, attentions, finished, sharing, (_LENGTH_STEP, _ROWS_STEP))
        if self._device.type == "cpu":
            return_freed_memory()
        return found

    def encode_query(self, text: str) -> Query:
        """Embeddings of a query."""
        return self.encode_queries([text])[0]

    def encode_queries(self, texts: Sequence[str]) -> list[Query]:
        """Embeddings of some queries, encoded together; blanks around them are left out, as PyLate does."""
        frame, tokenized = self._query_frame, self.tokenize([text.strip() for text in texts])
        inputs, attentions = (list(map(make, tokenized)) for make in (frame.ids, frame.attention))

        def finished(index: int, mean: Floats, embeddings: Floats) -> Query:
            text, tokens = texts[index].strip(), tokenized[index]
            shift = texts[index].index(text)
            spans = frame.spans(tokens)
            return Query(
                embeddings,
                self._dense(mean, embeddings),
                text[int(tokens.starts[frame.room]) :] if len(tokens.ids) > frame.room else "",
                np.where(spans[:, 1:] > 0, spans + shift, 0),
                self._names(inputs[index]),
                uncovered_parts(tokens, text, self._is_unknown(tokens)),
            )

        threads = query_threads(self._parameters, sum(map(len, inputs)), self._threads)
        with computing_on(threads) if self._device.type == "cpu" else nullcontext():
            return self._embedded(inputs, attentions, finished, Sharing(1, self._budget.tokens, threads), (1, 1))

    def _embedded(
        self,
        inputs: Sequence[Ints],
        attentions: Sequence[Ints],
        finished: Callable[[int, Floats, Floats], T],
        sharing: Sharing,
        steps: tuple[int, int],
    ) -> list[T]:
        """What ``finished`` makes of each input's index, mean and embeddings; in the order given."""
        lengths = [len(ids) for ids in inputs]
        waiting = Waiting(lengths, self._budget, sharing.tokens, self.window, steps)
        results: dict[int, T] = {}

        def work() -> None:
            while (batch := waiting.take()) is not None:
                ids, attention = (
                    padded([of[index] for index in batch.members], batch.rows, batch.length)
                    for of in (inputs, attentions)
                )
                attention[len(batch.members) :, 0] = 1  # rows that only fill up the shape attend to something
                found = self._forward_or_back_off(
                    {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(attention)}
                )
                if found is None:
                    waiting.put_back(batch)
                    continue
                for row, index in enumerate(batch.members):
                    results[index] = finished(index, found[0][row], found[1][row, : lengths[index]])

        at_once(work, sharing, self._threads, waiting.stop)
        return [results[index] for index in range(len(inputs))]

    def _forward_or_back_off(self, features: dict[str, torch.Tensor]) -> tuple[Floats, Floats] | None:
        """What ``_forward`` gives, or None where memory was too little, and the next batch is to be smaller.

        Raises EncoderError where it is too little for a single text.
        """
        count, length = features["input_ids"].shape
        try:
            found = self._forward(features)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if count == 1:
                raise EncoderError(
                    f"The memory of {self.device} is too little for a text of {length} tokens; set [model] "
                    'document_length lower, or device = "cpu".'
                ) from error
        else:
            self._budget.fitted()
            return found
        release_memory(self.device)
        self._budget.failed(count * length)
        _log.warning("Too little memory on %s: batches of %d tokens from now on.", self.device, self._budget.tokens)
        return None

    def kept_spans(self, document: Tokenized) -> Ints:
        """int64 [n, 2]: the characters of each row of the document's token embeddings; (0, 0) for special tokens."""
        return self._document_frame.spans(document)[self._kept(self._document_frame.ids(document))]

    def kept_tokens(self, document: Tokenized) -> tuple[str, ...]:
        """The names in the vocabulary of the rows of the document's token embeddings."""
        ids = self._document_frame.ids(document)
        return self._names(ids[self._kept(ids)])

    def coverage(self, document: Tokenized, text: str) -> Coverage:
        """How much of a text, of which these are the tokens, its embeddings do not hold."""
        return count_coverage(document, text, self._is_unknown(document), self._is_skipped(document.ids))

    def _is_unknown(self, document: Tokenized) -> npt.NDArray[np.bool_]:
        return np.equal(document.ids, -1 if self._unknown is None else self._unknown)

    def _is_skipped(self, ids: Ints) -> npt.NDArray[np.bool_]:
        return self._skipped[np.minimum(ids, len(self._skipped) - 1)]

    def _names(self, ids: Ints) -> tuple[str, ...]:
        return tuple(map(self._tokens.name, ids.tolist()))

    def _kept(self, ids: Ints) -> npt.NDArray[np.bool_]:
        """Which tokens of a document keep their embedding: those not on the skiplist, or all if there are no others."""
        kept = ~self._is_skipped(ids)
        return kept if kept.any() else ~kept

    def _forward(self, features: dict[str, torch.Tensor]) -> tuple[Floats, Floats]:
        """Means of the states before the projection, and normalised token embeddings; float32 [b, h] and [b, t, d].

        The means are taken on the device: states are several times as large as all that is kept of them.
        """
        features = {name: tensor.to(self._device) for name, tensor in features.items()}
        with self._alone or nullcontext(), torch.inference_mode():
            features = self.backbone(features)
            states = features["token_embeddings"].float()
            attended = features["attention_mask"].float()
            means = torch.bmm(attended[:, None], states)[:, 0] / attended.sum(dim=1, keepdim=True)
            features["token_embeddings"] = states
            for projection in self._projections:
                features = projection(features)
            tokens = torch.nn.functional.normalize(features["token_embeddings"], p=2, dim=-1)
            return means.cpu().numpy(), tokens.cpu().numpy()

    def _dense(self, mean: Floats, kept: Floats) -> Floats:
        dense: Floats = mean if self._dense_before_projection else kept.mean(axis=0)
        return dense / np.float32(max(float(np.linalg.norm(dense)), 1e-12))


def _tokens_of(model: ColBERT) -> ExactTokenizer:
    """A copy of the model's tokenizer that no other caller switches truncation or padding on."""
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise EncoderError("The model's tokenizer has no fast version, so tokens cannot be traced to characters.")
    if getattr(model[0], "do_lower_case", False):
        raise EncoderError("The model lower-cases outside its tokenizer, so tokens cannot be traced to characters.")
    return ExactTokenizer(backend)


def _frames(model: ColBERT, tokens: ExactTokenizer, settings: Settings) -> tuple[Frame, Frame]:
    """What PyLate puts around documents and around queries.

    Queries are filled up on the side on which the model's tokenizer pads, as in PyLate's training. They lose their end
    where they are too long, whatever side the tokenizer would cut, so that an answer can say which words were not used.
    """
    own = model.tokenizer
    given = (getattr(own, f"{name}_token_id", None) for name in ("unk", "pad"))
    stand_in = next((token for token in given if token is not None), 0)
    return (
        Frame(tokens.lead, tokens.tail, model.document_prefix_id, settings.document_length.value, stand_in),
        Frame(
            tokens.lead,
            tokens.tail,
            model.query_prefix_id,
            settings.query_length.value,
            stand_in,
            filler=own.pad_token_id if settings.do_query_expansion.value else None,
            before=own.padding_side == "left",
            attended=settings.attend_to_expansion_tokens.value,
        ),
    )
