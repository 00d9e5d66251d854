"""Which items of a source a store does not hold yet.

In the first pass over a source its items are counted: committed shards are skipped without a look at them. Once that
pass is complete, or where the source has changed under it, items are told apart by their keys: a key that has an
outcome is passed over unread, anything else is new.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence, Set

import numpy as np
from PIL.Image import Image

from coldpress.data import Source
from coldpress.errors import StoreError
from coldpress.preprocess.reading import hash_image
from coldpress.preprocess.text import hash_text
from coldpress.store.digests import DigestIndex, as_stored, hash_strings
from coldpress.store.manifest import Manifest
from coldpress.store.names import metadata_file
from coldpress.store.root import Root
from coldpress.store.tables import read_strings
from coldpress.types import Content, Failed, Item, Modality

logger = logging.getLogger(__name__)

_LOOKUP = 1024
"""Keys looked up at a time."""

_LOOKUP_BYTES = 1 << 25
"""Content that may wait for such a look-up: 1,024 photos out of a tar would be gigabytes."""

_FAILED, _HAS_ROW = 0, 1


class Todo:
    """The items that remain, drawn once; `passed` counts those that were passed over so far.

    Parameters
    ----------
    source
        All items.
    root, manifest
        The store and what is committed in it.
    modality
        Of the model: decides how the content of an item is hashed.
    again
        Keys to be done again though the store has them.
    """

    def __init__(self, source: Source, root: Root, manifest: Manifest, modality: Modality, again: Set[str]) -> None:
        self._source, self._root, self._manifest, self._modality = source, root, manifest, modality
        self._again = again
        self.first_pass = manifest.passes == 0 and not again
        self.passed = 0

    def __iter__(self) -> Iterator[Item]:
        if not self.first_pass:
            return self._by_key()
        self.passed = self._manifest.inputs
        return self._by_number() if self.passed else self._source.items(0)

    def continues(self) -> bool:
        """Whether all that remains are the items behind the last committed one."""
        if not self.first_pass or not self._manifest.inputs:
            return self.first_pass
        last = next(self._source.items(self._manifest.inputs - 1), None)
        return last is not None and last.key == _last_key(self._root, self._manifest)

    def _by_number(self) -> Iterator[Item]:
        """Behind the last committed input, if that is still where it was."""
        items = self._source.items(self.passed - 1)
        last = next(items, None)
        expected = _last_key(self._root, self._manifest)
        if last is not None and last.key == expected:
            return items
        found = "nothing" if last is None else f"'{last.key}'"
        logger.warning(
            "%s: has changed since this store was begun (input %d was '%s', now is %s): going on by key",
            self._source.name,
            self.passed,
            expected,
            found,
        )
        self.passed = 0
        return self._by_key()

    def _by_key(self) -> Iterator[Item]:
        index = _index_keys(self._root, self._manifest)
        for batch in batches(self._source.items(0)):
            known = index.find(hash_strings(item.key for item in batch))
            self._refuse_changes(index, [i for i, what in zip(batch, known, strict=True) if what == _HAS_ROW])
            for item, what in zip(batch, known, strict=True):
                if what is None or (self._again and as_stored(item.key) in self._again):
                    yield item
                else:
                    self.passed += 1

    def _refuse_changes(self, index: DigestIndex, known: Sequence[Item]) -> None:
        """Content that lies at hand is compared with what was embedded; that of files is not read for it."""
        hashed = [(item, _key_and_hash(item.key, digest)) for item in known if (digest := self._content_hash(item))]
        for (item, _), what in zip(hashed, index.find([digest for _, digest in hashed]), strict=True):
            if what is None:
                raise StoreError(
                    f"{self._root}: has a vector for '{item.key}', whose content has changed since; a store keeps what "
                    f"it has: embed into another output with --reuse {self._root}, which computes only what is new"
                )

    def _content_hash(self, item: Item) -> str | None:
        if isinstance(item.content, str) and self._modality == "text":
            return hash_text(item.content)
        return hash_image(item.content) if isinstance(item.content, bytes) else None


def batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    """Items to be looked up together, as many as are no burden on memory."""
    batch, size = [], 0
    for item in items:
        batch.append(item)
        size += _size(item.content)
        if len(batch) == _LOOKUP or size >= _LOOKUP_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _size(content: Content | Failed) -> int:
    """Bytes that a content takes in memory, roughly."""
    if isinstance(content, str | bytes):
        return len(content)
    if isinstance(content, Image):
        return content.width * content.height * 4
    return content.nbytes if isinstance(content, np.ndarray) else 0


def _index_keys(root: Root, manifest: Manifest) -> DigestIndex:
    """Every key that has an outcome, and every key that has a row together with the hash of its content."""
    index = DigestIndex(root.directory)
    for number, shard in enumerate(manifest.shards):
        keys, statuses = read_strings(root, shard.outcomes, "key", "status")
        index.add(hash_strings(keys), [_FAILED if status == "failed" else _HAS_ROW for status in statuses])
        if shard.rows:
            (hashes,) = read_strings(root, metadata_file(number), "content_hash")
            good = [key for key, status in zip(keys, statuses, strict=True) if status != "failed"]
            pairs = [_key_and_hash(key, digest) for key, digest in zip(good, hashes, strict=True)]
            index.add(pairs, [_HAS_ROW] * len(pairs))
    return index


def _key_and_hash(key: str, content_hash: str) -> str:
    return hash_strings([f"{content_hash} {key}"])[0]


def _last_key(root: Root, manifest: Manifest) -> str:
    (keys,) = read_strings(root, manifest.shards[-1].outcomes, "key")
    return keys[-1]
