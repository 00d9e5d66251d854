"""One reading and one decoding of images for several networks, each of which gets its own pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from coldpress.preprocess import Preprocessor
from coldpress.preprocess.image import ImagePreprocessor, Loaded, known_files, load_jpegs
from coldpress.preprocess.reading import DecodedFile, File, Source, read_images
from coldpress.types import Content, Failed, KnownHashes, KnownInput, ModelInput

Prepared = ModelInput | KnownInput | Failed
PrepareAll = Callable[[Sequence[Content], Sequence[KnownHashes]], Sequence[Sequence[Prepared]]]


def shared(ways: Sequence[Preprocessor]) -> PrepareAll:
    """A function of contents, and of what each way knows already, to what each of the ways makes of them.

    Images are read and decoded once, byte for byte as for each way alone. Ways that cannot share that, and texts,
    prepare everything for themselves.
    """
    images = [way for way in ways if isinstance(way, ImagePreprocessor)]
    alike = {(way.spec.exif, way.spec.fast_decode, way.max_pixels) for way in images}
    if len(images) < len(ways) or len(alike) > 1 or images[0].spec.fast_decode:
        return partial(_each_alone, ways)
    return partial(_together, images)


def _each_alone(
    ways: Sequence[Preprocessor], contents: Sequence[Content], known: Sequence[KnownHashes]
) -> list[Sequence[Prepared]]:
    return [way(contents, one) for way, one in zip(ways, known, strict=True)]


def _together(
    ways: Sequence[ImagePreprocessor], contents: Sequence[Content], known: Sequence[KnownHashes]
) -> list[list[Loaded]]:
    first = ways[0]
    with first.spending("read"):
        sources = read_images(contents)
        done = [known_files(sources, one) for one in known]
    wanted = {i: source for i, source in enumerate(sources) if any(i not in have for have in done)}
    for have, made in zip(done, load_jpegs(ways, wanted), strict=True):
        have.update({i: one for i, one in made.items() if i not in have})
    for i, source in wanted.items():
        decoded: Source | Failed | None = None
        for way, have, one in zip(ways, done, known, strict=True):
            if i not in have:
                decoded = _decoded(way, source) if decoded is None else decoded
                have[i] = way.load(decoded, one)
    return [[have[i] for i in range(len(sources))] for have in done]


def _decoded(way: ImagePreprocessor, source: Source | Failed) -> Source | Failed:
    """A file that only Pillow decodes, decoded; of one that it does not decode each way says for itself why."""
    if isinstance(source, File):
        with suppress(Exception), way.spending("decode"):
            pixels, _ = way.decode(source)
            return DecodedFile(pixels, source.content_hash)
    return source
