"""From texts to token ids, in batches and off the compute thread."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coldpress.models.tokenizers import open_tokenizer
from coldpress.types import BareTextSpec, Content, Failed, KnownHashes, TextInput, TextSpec


class TextPreprocessor:
    """Tokenise texts for one model.

    Parameters
    ----------
    spec : longest input, prompt and lower-casing.
    directory : model directory with a tokenizer, see :mod:`coldpress.models.tokenizers`.

    Notes
    -----
    Lone surrogates, which UTF-8 cannot carry, become U+FFFD. NUL and other control characters are left to the
    tokenizer, whose normaliser drops them. The empty text is a valid input of special tokens alone, or of none. Text of
    any length is accepted: what lies behind `max_tokens` is cut and counted, what lies behind `max_chars` is cut.
    """

    modality = "text"

    def __init__(self, spec: TextSpec, directory: Path) -> None:
        self.spec = spec
        self.seconds = {"tokenize": 0.0}
        self._lock = threading.Lock()
        self._special = not isinstance(spec, BareTextSpec)
        self._max_chars, self._dropped = (
            (spec.max_chars, spec.dropped) if isinstance(spec, BareTextSpec) else (None, None)
        )
        self._tokenizer = open_tokenizer(directory)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    @property
    def exact(self) -> TextPreprocessor:
        """Itself: there are no shortcuts."""
        return self

    def __call__(self, contents: Sequence[Content], known: KnownHashes | None = None) -> list[TextInput | Failed]:
        """Return one input for each content, in order; `Failed` for what is no text.

        All are tokenised, `known` or not: the number of tokens belongs to an item's metadata.
        """
        start = time.perf_counter()
        texts = [clean(content) if isinstance(content, str) else None for content in contents]
        dressed = [self._dress(text) for text in texts if text is not None]
        encodings = iter(self._tokenizer.encode_batch_fast(dressed, add_special_tokens=self._special))
        inputs: list[TextInput | Failed] = [
            Failed(f"not a text but {type(content).__name__}") if text is None else self._input(text, next(encodings))
            for text, content in zip(texts, contents, strict=True)
        ]
        with self._lock:
            self.seconds["tokenize"] += time.perf_counter() - start
        return inputs

    def _dress(self, text: str) -> str:
        dressed = (self.spec.prompt + text)[: self._max_chars]
        return dressed.lower() if self.spec.lowercase else dressed

    def _input(self, text: str, encoding: Any) -> TextInput:
        ids = encoding.ids
        total = len(ids)
        longest = total if self.spec.max_tokens is None else self.spec.max_tokens
        truncated = total > longest
        if truncated:  # keep the closing special tokens, as truncation inside the tokenizer does
            closing = _count_closing(encoding.special_tokens_mask)
            ids = ids[: longest - closing] + ids[total - closing :]
        if self.spec.padding is not None:
            ids = ids + [self.spec.padding] * (longest - len(ids))
        if self._dropped is not None:
            ids = [token for token in ids if token != self._dropped]
        if self._max_chars is not None:
            truncated |= len(self.spec.prompt) + len(text) > self._max_chars
        return TextInput(np.asarray(ids, dtype=np.int32), hash_text(text), total, truncated)


def hash_text(text: str) -> str:
    """32 hexadecimal digits that name a text."""
    return hashlib.sha256(clean(text).encode()).hexdigest()[:32]


def clean(text: str) -> str:
    """The text as it is tokenised: surrogates that are a pair joined, lone ones replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:  # UTF-16 does both
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _count_closing(special: Sequence[int]) -> int:
    """Special tokens at the end of an encoding."""
    return next((i for i, flag in enumerate(reversed(special)) if not flag), 0)
