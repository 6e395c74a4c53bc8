"""From a text's own tokens to what the model is given: special tokens around them, a marker, and expansion.

It is what PyLate gives the model for a text alone (tested), and known position by position, so that each row can be
traced to its characters. Knows ids and spans; neither torch nor a tokenizer.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from colbert_mcp.encoder.base import Tokenized

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around a text of one kind, document or query.

    ``lead`` and ``tail`` are the special tokens before and after it (int64 each); ``marker`` follows the first token,
    whatever that is, as in PyLate, or is None; ``length`` is the most tokens of an input. An input without any token
    is the ``stand_in``. With a ``filler`` it is filled up to ``length``, behind the text or ``before`` it, with tokens
    that the others attend to (``attended``) or do not.
    """

    lead: Ints
    tail: Ints
    marker: int | None
    length: int
    stand_in: int
    filler: int | None = None
    before: bool = False
    attended: bool = False

    @property
    def room(self) -> int:
        """Tokens of its own that a text may have."""
        return self.length - len(self.lead) - len(self.tail) - (self.marker is not None)

    def ids(self, text: Tokenized) -> Ints:
        """int64 [n]: the input for the first ``room`` tokens of a text."""
        own = self._some(text.ids, self.stand_in)
        return self._around(own, self.lead, self.tail, self.marker or 0, self.filler or 0)

    def attention(self, text: Tokenized) -> Ints:
        """int64 [n]: 1 for each token of the input that the others attend to, else 0."""
        lead, own, tail = (np.ones(len(part), np.int64) for part in (self.lead, text.ids, self.tail))
        return self._around(self._some(own, 1), lead, tail, 1, int(self.attended))

    def spans(self, text: Tokenized) -> Ints:
        """int64 [n, 2]: the characters of the text under each token of the input; (0, 0) for those around it."""
        own = np.stack([text.starts, text.ends], axis=1)
        lead, tail = (np.zeros((len(special), 2), np.int64) for special in (self.lead, self.tail))
        return self._around(self._some(own, 0), lead, tail, 0, 0)

    def _some(self, own: Ints, stand_in: int) -> Ints:
        """The values of a text's tokens, or of the stand-in where nothing else would be given."""
        nothing = len(own) == 0 and self.room == self.length and self.filler is None
        return np.full((1, *own.shape[1:]), stand_in, np.int64) if nothing else own

    def _around(self, own: Ints, lead: Ints, tail: Ints, marker: int, filler: int) -> Ints:
        """The values of a text's tokens, those of what stands around them in their places."""
        framed = np.concatenate([lead, own[: self.room], tail])
        missing = self.length - len(framed) - (self.marker is not None)
        if self.filler is not None and missing > 0:
            filling = np.full((missing, *own.shape[1:]), filler, np.int64)
            framed = np.concatenate([filling, framed] if self.before else [framed, filling])
        return framed if self.marker is None else np.insert(framed, min(1, len(framed)), marker, axis=0)
