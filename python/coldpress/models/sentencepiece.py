"""Reads a SentencePiece model: a protocol buffer message, of which a tokenizer needs three fields.

Source: https://github.com/google/sentencepiece/blob/v0.2.1/src/sentencepiece_model.proto (Apache-2.0).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_PIECES, _NORMALIZER, _CHARSMAP, _PIECE, _SCORE = 1, 3, 2, 1, 2  # numbers of fields
_VARINT, _DOUBLE, _FLOAT = 0, 1, 5  # kinds of values; all others state their length


def read_sentencepiece(data: bytes) -> tuple[list[tuple[str, float]], bytes]:
    """Return the pieces with their scores, and the map of characters of the normaliser.

    Raises
    ------
    ValueError
        If it is something else, or not all of it.
    """
    pieces, charsmap = [], b""
    for number, value in _fields(data):
        if number == _PIECES:
            inner = dict(_fields(value))
            pieces.append((inner[_PIECE].decode(), float(struct.unpack("<f", inner.get(_SCORE, bytes(4)))[0])))
        elif number == _NORMALIZER:
            charsmap = dict(_fields(value)).get(_CHARSMAP, b"")
    return pieces, charsmap


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the fields of a message in their order, varints passed over."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        size = {_DOUBLE: 8, _FLOAT: 4}.get(key & 7)
        if size is None:
            size, at = _varint(data, at)
        if key & 7 == _VARINT:
            continue
        if at + size > len(data):
            raise ValueError(f"a field of {size} bytes at {at} of {len(data)}; is the file complete?")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Read a number of seven bits a byte, and return where it ends."""
    value = shift = 0
    while at < len(data):
        byte, at = data[at], at + 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
    raise ValueError(f"the number at the end of {len(data)} bytes is cut; is the file complete?")
