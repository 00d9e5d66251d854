"""The values that travel between the layers: frozen, typed, free of behaviour beyond their own invariants.

Axis letters used everywhere: B batch, T tokens, H heads, D width, C channels, N rows, K neighbours.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch

from coldpress._urls import is_url, open_filesystem, retrying

Modality = Literal["text", "image"]
Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class FileRef:
    """A file that is read only when its item is processed. `url` is a local path or any fsspec URL."""

    url: str

    def read(self) -> bytes:
        """Return the whole file; behind a URL again and again while its service is out of order."""
        if not is_url(self.url):
            return Path(self.url).read_bytes()
        filesystem, path = open_filesystem(self.url)
        try:
            return bytes(retrying(lambda: filesystem.cat_file(path)))
        except PermissionError:
            filesystem.cat_file(path, start=0, end=1)  # s3fs has asked for the size, an answer that does not say why
            raise


Content = str | bytes | FileRef | PIL.Image.Image | npt.NDArray[np.uint8]
"""What an item is made of: text, an encoded image, a file holding one, or decoded RGB pixels (height, width, 3)."""


@dataclass(frozen=True, slots=True)
class Item:
    """One input of a run.

    `key` is unique in the store and stable between runs; `source` says where the item came from (a path, or
    ``file.jsonl:17``); `metadata` holds the label and other columns that are carried into the store. `content` is
    `Failed` where the source itself could not make sense of the entry: the run goes on and the outcome log says why.
    """

    key: str
    content: Content | Failed
    source: str = ""
    metadata: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextInput:
    """A tokenised text: `ids` (T,) int32 with special tokens; `num_tokens` counts before anything is left out."""

    ids: npt.NDArray[np.int32]
    content_hash: str
    num_tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class ImageInput:
    """A decoded, resized and cropped image: `pixels` (height, width, 3) uint8 RGB."""

    pixels: npt.NDArray[np.uint8]
    content_hash: str


@dataclass(frozen=True, slots=True)
class KnownInput:
    """An item whose vector is known already: nothing but its hash was taken."""

    content_hash: str


ModelInput = TextInput | ImageInput


KnownHashes = Callable[[Sequence[str]], Sequence[bool]]
"""Says of each content hash whether its vector is known already. Called from several threads."""


@dataclass(frozen=True, slots=True)
class Failed:
    """An item that could not be turned into a model input or a vector, with a reason fit for the outcome log."""

    reason: str


@dataclass(frozen=True, slots=True)
class TextBatch:
    """Texts packed without padding: `ids` (T,) int32, sequence b is ``ids[cu_seqlens[b]:cu_seqlens[b + 1]]``.

    None has more than `longest` tokens, where that is known.
    """

    ids: torch.Tensor
    cu_seqlens: torch.Tensor
    longest: int | None = None

    def __len__(self) -> int:
        return self.cu_seqlens.numel() - 1


@dataclass(frozen=True, slots=True)
class ImageBatch:
    """Images of one size: `pixels` (B, height, width, 3) uint8 RGB."""

    pixels: torch.Tensor

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True, slots=True)
class MixedBatch:
    """Images that keep their shapes: `images` are (height, width, 3) uint8 RGB each."""

    images: tuple[torch.Tensor, ...]

    def __len__(self) -> int:
        return len(self.images)


Batch = TextBatch | ImageBatch | MixedBatch


@dataclass(frozen=True, slots=True)
class TextSpec:
    """How text becomes token ids: everything that changes the numbers, nothing that does not.

    `tokenizer` is the canonical tokenizer.json (or vocabulary) content's SHA-256, `max_tokens` includes the
    special tokens, None for any number, `prompt` is put in front of every text. `padding` is the token that fills every
    text up to `max_tokens`; None leaves them as long as they are.
    """

    tokenizer: str
    max_tokens: int | None
    prompt: str = ""
    lowercase: bool = False
    padding: int | None = None


@dataclass(frozen=True, slots=True)
class BareTextSpec(TextSpec):
    """Text as its own tokens alone, without special ones: it may have none.

    Only the first `max_chars` characters of a text are read, None for all. `dropped` is the token of what the
    vocabulary does not know, left out of the `max_tokens` that were kept; None keeps it.
    """

    max_chars: int | None = None
    dropped: int | None = None


Resample = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """How an image becomes pixels and pixels become normalised values, as the model's own processor does it.

    `resize` is ``("shortest_edge", s)``, ``("exact", height, width)``, ``("patches", side, most)`` or None; the third
    keeps the shape: the greatest size in multiples of `side` that has at most so many patches. `crop` is (height,
    width) of a centre crop or None; values are ``(pixel * rescale - mean) / std`` for each RGB channel. `exif` turns
    images upright as their EXIF data says. `crop_rounding` is what becomes of half a pixel of the crop's offset:
    ``down`` in Hugging Face processors, to ``even`` in torchvision and timm. `fast_decode` decodes JPEG files at 1/2,
    1/4 or 1/8 of their size where that is not below the resized one: faster on large photos, close to the exact pixels
    and not equal to them. ``gpu`` has them decoded and resized by a GPU, whose decoder rounds differently, ``gpu:60``
    60 % of them, chosen by their contents.
    """

    resize: tuple[Any, ...] | None
    crop: tuple[int, int] | None
    resample: Resample
    rescale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    exif: bool = False
    fast_decode: bool | str = False
    crop_rounding: Literal["down", "even"] = "down"

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of every output image; None where it depends on the input."""
        if self.crop is not None:
            return self.crop
        if self.resize is not None and self.resize[0] == "exact":
            return (int(self.resize[1]), int(self.resize[2]))
        return None

    @property
    def keeps_shape(self) -> bool:
        """Whether an output image is as wide, for its height, as the input."""
        return self.resize is not None and self.resize[0] == "patches"

    @property
    def scale_shift(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """The same values as ``pixel * scale + shift``: one multiply-add a pixel."""
        (m0, m1, m2), (s0, s1, s2) = self.mean, self.std
        return (self.rescale / s0, self.rescale / s1, self.rescale / s2), (-m0 / s0, -m1 / s1, -m2 / s2)


Spec = TextSpec | ImageSpec


@dataclass(frozen=True, slots=True)
class Output:
    """What is taken of an item from the backbone: which hidden layer, pooled how.

    `layer` is None for the final one, else the 1-based block whose output is taken. `pooling` is ``model``
    (what the model's own files say), ``cls``, ``mean`` or ``last``, or ``none``: a vector for every token or patch.
    """

    name: str
    layer: int | None
    pooling: Literal["model", "cls", "mean", "last", "none"]

    @property
    def dense(self) -> bool:
        """Whether an item has a matrix instead of a vector."""
        return self.pooling == "none"

    @property
    def own(self) -> bool:
        """Whether this is the vector that the model's own files describe."""
        return self.layer is None and self.pooling == "model"


@dataclass(frozen=True, eq=False)
class Ragged:
    """A matrix for each of N items, one below the other: item i has the next ``counts[i]`` of `rows` (T, D) float32."""

    rows: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        """(N, D)."""
        return len(self), self.rows.shape[1]

    @property
    def ends(self) -> npt.NDArray[np.int64]:
        """Where the rows of each item end."""
        return np.cumsum(self.counts, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, chosen: slice | Sequence[int] | npt.NDArray[np.int64]) -> Ragged:
        """Some of the items, chosen by a slice or by numbers."""
        numbers = np.arange(len(self))[chosen] if isinstance(chosen, slice) else np.asarray(chosen, np.int64)
        ends = self.ends
        parts = [self.rows[ends[i] - self.counts[i] : ends[i]] for i in numbers]
        return Ragged(np.concatenate([self.rows[:0], *parts]), self.counts[numbers])


Rows = npt.NDArray[np.float32] | Ragged
"""What N items have of one output: vectors (N, D) float32, or a matrix each."""


@dataclass(frozen=True)
class Fingerprint:
    """What two sets of vectors must share to be of one making, as plain JSON values.

    The field `space` does not shape the vectors. It is there where another tower of the same checkpoint maps into the
    same space: ``checkpoint`` is a hash of both towers, ``tower`` says which of them this is; what the vectors were
    reduced by stands there again.
    """

    fields: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical JSON of the fields, `space` left out, hexadecimal."""
        shaping = {name: value for name, value in self.fields.items() if name != "space"}
        canonical = json.dumps(shaping, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def meets(self, other: Fingerprint) -> bool:
        """Say whether a vector of the other may be compared with these.

        It may if it is of the same making, or comes out of the other tower of the same checkpoint, in whatever
        precision, prompt and preprocessing that ran.
        """
        mine, theirs = (dict(fields.get("space") or {}) for fields in (self.fields, other.fields))
        towers = {mine.pop("tower", None), theirs.pop("tower", None)} == {"image", "text"}
        same_numerics = self.fields.get("numerics") == other.fields.get("numerics")
        return self.digest == other.digest or (towers and mine == theirs and same_numerics)

    def diff(self, other: Fingerprint) -> list[str]:
        """One line ``field: this != that`` for everything that differs, nested fields dotted.

        Of networks of different kinds, configuration and preprocessing are left out; ranges that int8 learned are one.
        """
        mine, theirs = dict(_flatten(self.fields)), dict(_flatten(other.fields))
        kinds = {(f.get("family"), "preprocessing.tokenizer" in f) for f in (mine, theirs)}
        beside = ("config.", "preprocessing.") if len(kinds) > 1 else ()
        names = sorted(name for name in mine.keys() | theirs.keys() if not name.startswith((*beside, "calibration.")))
        absent = "(absent)"
        differences = [
            f"{name}: {_visible(mine.get(name, absent))} != {_visible(theirs.get(name, absent))}"
            for name in names
            if mine.get(name, absent) != theirs.get(name, absent)
        ]
        learned, theirs_learned = self.fields.get("calibration"), other.fields.get("calibration")
        if not beside and learned and theirs_learned and learned != theirs_learned:
            differences.append("calibration: int8 with ranges of other data (--reuse takes over those of a store)")
        return differences


def _visible(value: Any) -> str:
    """A value for people; quoted where its ends could not be seen."""
    return repr(value) if isinstance(value, str) and (not value or value != value.strip()) else str(value)


def _flatten(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [pair for key, v in value.items() for pair in _flatten(v, f"{prefix}.{key}" if prefix else str(key))]
    return [(prefix, list(value) if isinstance(value, tuple) else value)]


def mode_label(precision: str, layer_precision: Mapping[str, str]) -> str:
    """``int8``, or ``int8 with 3 layers in fp32``."""
    counts = Counter(layer_precision.values())
    kept = " and ".join(f"{n} layer{'s' * (n > 1)} in {mode}" for mode, n in sorted(counts.items()))
    return f"{precision} with {kept}" if kept else precision


@dataclass(frozen=True, slots=True)
class Certificate:
    """How close the vectors of a run are to the fp32 reference forward, measured on a sample of its own items.

    `layer_precision` names the layers that ran in another precision than the rest. What storing as `stored_dtype` adds
    is measured apart, on the first rows of a store: cosine and neighbours of what it gives back with what was computed.
    Where patches are merged, the reference merges them too; mean cosine and neighbours of the vectors with those of the
    fp32 network that keeps all patches are `merged_cosine` and `merged_overlap`, and do not decide whether it passed.
    """

    precision: str
    samples: int
    cosine_mean: float
    cosine_min: float
    max_abs_error: float
    neighbours: int
    neighbour_overlap: float
    passed: bool
    layer_precision: Mapping[str, str] = field(default_factory=dict)
    stored_dtype: str | None = None
    stored_cosine: float | None = None
    stored_overlap: float | None = None
    merged_cosine: float | None = None
    merged_overlap: float | None = None

    @property
    def label(self) -> str:
        """The precision for people."""
        return mode_label(self.precision, self.layer_precision)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one input item. `reason` names the failure, or the first key of a duplicate."""

    key: str
    status: Literal["ok", "failed", "duplicate"]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Results:
    """What the engine hands to the store: n items of the source, in its order.

    `inputs` and `outcomes` have one entry per item. Each item whose outcome is ``ok`` or ``duplicate`` becomes a row;
    `copies` has one entry per row: None where the row takes the next vector of `vectors` (those of N items per
    output), else the number of an earlier row of the store whose vector it repeats.
    """

    items: Sequence[Item]
    inputs: Sequence[ModelInput | KnownInput | Failed]
    outcomes: Sequence[Outcome]
    copies: Sequence[int | None]
    vectors: Mapping[str, Rows]
