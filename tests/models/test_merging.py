"""`merge_tokens=R`: as in the paper, exact where patches are equal, the same in any company, refused if senseless."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conformance import every_output, torch_threads, write_files
from fake_gpu import assert_nothing_waits
from test_clip import BOTH, both
from test_vit import PANELS, processor
from torch.nn import functional as F
from transformers import ViTConfig, ViTModel

from coldpress import EmbeddingStore, Extractor, VectorIndex, models
from coldpress.cli._extractors import extractor_for, extractor_for_query
from coldpress.errors import ColdpressError, ModelError
from coldpress.models.vision import VisionConfig, VisionTower
from coldpress.types import ImageBatch, ImageSpec

SPEC = ImageSpec(("exact", 24, 24), None, "bilinear", 1 / 255, (0.5,) * 3, (0.5,) * 3)
SIZES: dict[str, Any] = {"width": 64, "depth": 3, "heads": 2, "hidden": 96, "patch": 4, "image_size": 24}
NO_CLASS: dict[str, Any] = {"special": 0, "positioned": 0}
VARIANTS: dict[str, dict[str, Any]] = {
    "class": {},
    "registers": {"special": 2, "positioned": 2, "registers": 3},
    "mean": NO_CLASS | {"pooling": "mean"},
    "pool_first": {"pooling": "mean", "pool_first": True},
    "attention": NO_CLASS | {"pooling": "attention"},
    "projected": {"stem_norm": True, "projection": 8},
    "gated": {"gated": True, "activation": "silu", "layer_scale": True},
    "narrow": {"width": 24, "heads": 3},
}


def unpacked(**changed: Any) -> VisionTower:
    """A network with random weights, 36 patches an image."""
    made = VisionTower(VisionConfig(**SIZES | changed), SPEC)
    draw = torch.Generator().manual_seed(0)
    for name, tensor in made.named_parameters():
        tensor.normal_(generator=draw).mul_(0.15)
        if name.endswith("norm.weight"):
            tensor.add_(1)
    return made


def tower(merged: int, precision: str = "fp32", **changed: Any) -> VisionTower:
    """The same, packed; each block merges so many patches."""
    made = unpacked(**changed)
    if merged:
        made.merge(merged)
    made.prepare(precision)
    return made


def images(count: int) -> ImageBatch:
    return ImageBatch(torch.randint(0, 256, (count, 24, 24, 3), dtype=torch.uint8))


def merge_by_the_paper(x: torch.Tensor, keys: torch.Tensor, sizes: list[int], r: int) -> tuple[torch.Tensor, list[int]]:
    """One image without a class token, pair by pair."""
    senders, receivers = range(1, len(x), 2), range(0, len(x), 2)
    edges = []
    for a in senders:
        cosines = [float(F.cosine_similarity(keys[a], keys[b], dim=0)) for b in receivers]
        edges.append((-max(cosines), a, 2 * cosines.index(max(cosines))))
    members = {b: [b] for b in range(len(x))}
    for _, a, b in sorted(edges)[:r]:
        members[b].append(a)
        del members[a]
    total = {b: sum(sizes[t] for t in group) for b, group in members.items()}
    rows = [sum(x[t] * sizes[t] for t in group) / total[b] for b, group in members.items()]
    return torch.stack(rows), list(total.values())


def forward_by_the_paper(network: VisionTower, batch: ImageBatch, r: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Means of the patches behind the second block and behind the last one, in float64."""
    seconds, lasts = [], []
    x, _ = network._embed(batch)
    network = network.double()
    for image in x.double().view(len(batch), 36, 64):
        tokens, sizes = image, [1] * 36
        for number, block in enumerate(network.blocks):
            norms = [(n.weight, n.bias, n.eps) for n in (block.attention_norm, block.mlp_norm)]
            normed = F.layer_norm(tokens, (64,), *norms[0])
            q, k, v = (
                F.linear(normed, block.attention.qkv.weight, block.attention.qkv.bias).view(-1, 3, 2, 32).unbind(1)
            )
            scores = torch.einsum("qhd,khd->hqk", q, k) / 32**0.5 + torch.tensor(sizes).double().log()
            mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1)
            tokens = tokens + F.linear(mixed, block.attention.out.weight, block.attention.out.bias)
            tokens, sizes = merge_by_the_paper(tokens, k.mean(1), sizes, r)
            hidden = F.linear(F.layer_norm(tokens, (64,), *norms[1]), block.mlp.up.weight, block.mlp.up.bias)
            tokens = tokens + F.linear(F.gelu(hidden), block.mlp.down.weight, block.mlp.down.bias)
            if number == 1:
                seconds.append((tokens * torch.tensor(sizes)[:, None]).sum(0) / 36)
        final = F.layer_norm(tokens, (64,), network.norm.weight, network.norm.bias, network.norm.eps)
        lasts.append((final * torch.tensor(sizes)[:, None]).sum(0) / 36)
    return torch.stack(seconds), torch.stack(lasts)


@pytest.mark.parametrize("merged", [1, 5, 11])
def test_is_the_algorithm_of_the_paper(merged: int) -> None:
    batch = images(6)
    second, last = forward_by_the_paper(unpacked(**VARIANTS["mean"]), batch, merged)
    found = tower(merged, **VARIANTS["mean"])(batch, every_output(3))
    torch.testing.assert_close(found["layer:2"].double(), second, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["pooled"].double(), last, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_patches_that_are_equal_are_merged_without_a_trace(name: str) -> None:
    """Without positions, an image of two colours has two kinds of patches: one token that counts for all of a kind is
    the same as all of them, in attention, in a mean and in an attention pool."""
    whole, merging = tower(0, **VARIANTS[name]), tower(8, **VARIANTS[name])
    for network in (whole, merging):
        network.embed.positions.zero_()
    batch = ImageBatch(torch.randint(0, 256, (3, 1, 1, 3), dtype=torch.uint8).repeat(1, 24, 24, 1))
    batch.pixels[:, :8] = 200
    outputs = [output for output in every_output(3) if output.pooling != "last"]
    expected, found = whole(batch, outputs), merging(batch, outputs)
    for output in outputs:
        torch.testing.assert_close(found[output.name], expected[output.name], rtol=1e-4, atol=1e-4)
    noise = images(3)
    assert not torch.allclose(whole(noise, outputs)["pooled"], merging(noise, outputs)["pooled"], atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "int16", "int8"])
@pytest.mark.parametrize("name", ["class", "registers", "attention", "narrow"])
def test_an_image_keeps_its_bits_in_any_company(name: str, precision: str) -> None:
    network, batch = tower(4, precision, **VARIANTS[name]), images(7)
    for outputs in ([every_output(3)[0]], [o for o in every_output(3) if o.pooling != "last"]):
        whole = network(batch, outputs)
        for threads in (1, 2):
            with torch_threads(threads):
                for rows in (slice(0, 7), slice(2, 3), slice(1, 6)):
                    part = network(ImageBatch(batch.pixels[rows]), outputs)
                    assert all(torch.equal(part[key], whole[key][rows]) for key in whole)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp8"])
@pytest.mark.parametrize("name", VARIANTS)
def test_nothing_waits_for_a_gpu(name: str, precision: str) -> None:
    """Merging networks become CUDA graphs too: op by op without values, everything is and stays on the device."""
    network, pixels, outputs = unpacked(**VARIANTS[name]), images(7), every_output(3)
    network.merge(4)
    assert network.captured
    assert_nothing_waits(network, pixels, precision, [o for o in outputs if o.pooling != "last"], outputs[:1])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_is_asked_for_beside_it_changes_no_bit(precision: str) -> None:
    """The last block alone is computed for one token only, where no other is wanted."""
    network, batch = tower(4, precision), images(5)
    outputs = [o for o in every_output(3) if o.pooling != "last"]
    together = network(batch, outputs)
    for output in outputs:
        assert torch.equal(network(batch, [output])[output.name], together[output.name]), output.name


def test_half_of_the_patches_are_the_most_a_block_takes() -> None:
    """11 of 36, three times: 36, 25, 14, and 7 of these, since each needs one that it goes into."""
    assert [block.merged for block in tower(11).merging] == [11, 11, 7]
    with pytest.raises(ModelError, match="merge_tokens is 12, expected 1 to 11: an image has 36 patches for 3 blocks"):
        tower(12)


@pytest.mark.parametrize(
    ("positions", "why"), [(100.0, "know their place by rotation"), ("flexible", "keep their shapes")]
)
def test_networks_whose_patches_cannot_be_averaged_are_refused(positions: Any, why: str) -> None:
    spec = ImageSpec(("patches", 4, 36), None, "bilinear", 1 / 255, (0.5,) * 3, (0.5,) * 3)
    config = VisionConfig(**SIZES | {"positions": positions})
    with pytest.raises(ModelError, match=why):
        VisionTower(config, spec if positions == "flexible" else SPEC).merge(2)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT of two blocks and 16 patches, in the layout of Hugging Face."""
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("vit")
    ViTModel(ViTConfig(**PANELS)).save_pretrained(directory)
    write_files(directory, processor())
    return directory


PHOTOS = list(np.random.default_rng(0).integers(0, 256, (20, 40, 40, 3), dtype=np.uint8))


def test_it_is_another_space_and_none_is_the_one_of_before(vit: Path) -> None:
    plain, merging = models.load(vit), models.load(vit, merge_tokens=3)
    assert "merge_tokens" not in plain.config
    assert merging.config == {"merge_tokens": 3, **plain.config}
    assert merging.weights == plain.weights
    prints = [Extractor(vit, merge_tokens=r).fingerprint for r in (0, 0, 2, 3)]
    assert prints[0] == prints[1]
    assert len({p.digest for p in prints}) == 3
    assert "config.merge_tokens: 2 != 3" in prints[2].diff(prints[3])


@pytest.mark.parametrize("precision", ["fp32", "int8", "auto"])
def test_a_store_says_what_merging_costs_and_finds_its_extractor_again(
    vit: Path, tmp_path: Path, precision: str
) -> None:
    extractor = Extractor(vit, precision=precision, merge_tokens=3)
    store: EmbeddingStore = extractor.embed_to(tmp_path / "store", PHOTOS, dtype="float32")
    certificate = store.certificate
    assert certificate is not None
    assert certificate.passed
    assert certificate.merged_cosine is not None
    whole = Extractor(vit, precision="fp32").embed(PHOTOS)
    vectors = np.asarray(store.embeddings)
    cosines = (whole * vectors).sum(1) / np.linalg.norm(whole, axis=1) / np.linalg.norm(vectors, axis=1)
    assert certificate.merged_cosine == pytest.approx(cosines[: certificate.samples].mean(), abs=0.02)
    assert certificate.merged_cosine < certificate.cosine_mean
    again = extractor_for(VectorIndex.build(store))
    np.testing.assert_array_equal(again.embed(PHOTOS), vectors)


def test_texts_still_find_the_images_of_clip(tmp_path: Path) -> None:
    """Merging approximates the space of both towers, as a lower precision does; fewer blocks leave it."""
    both({}, {}).save_pretrained(tmp_path / "clip")
    write_files(tmp_path / "clip", BOTH)
    merging = Extractor(tmp_path / "clip", merge_tokens=3, precision="fp32")
    index = VectorIndex.build(merging.embed_to(tmp_path / "store", PHOTOS))
    query = extractor_for_query(index, "text")
    assert query.modality == "text"
    assert query.fingerprint.meets(merging.fingerprint)


def test_without_merging_nothing_is_said_about_it(vit: Path) -> None:
    certificate = Extractor(vit, precision="fp32").certify(PHOTOS)
    assert (certificate.merged_cosine, certificate.merged_overlap) == (None, None)


@pytest.mark.parametrize("output", ["patches", "last"])
def test_outputs_of_single_patches_are_refused(vit: Path, output: str) -> None:
    with pytest.raises(ColdpressError, match=f"output {output!r} and merge_tokens 3"):
        Extractor(vit, output=f"pooled,{output}", merge_tokens=3)


def test_other_networks_are_refused(vit: Path, minilm: Path, shared: Path) -> None:
    with pytest.raises(ModelError, match="merge_tokens is 2, and this network takes texts"):
        Extractor(minilm, merge_tokens=2)
    with pytest.raises(ModelError, match="merge_tokens is 2, and this network is convolutional"):
        Extractor(shared / "models" / "mobilenet_v1_0.25_128_imagenet", merge_tokens=2)
    with pytest.raises(ModelError, match=r"merge_tokens is 2, and .* is a module as a whole"):
        Extractor(models.load(vit), merge_tokens=2)
    with pytest.raises(ModelError, match="merge_tokens is -1, expected 1 to 7"):
        Extractor(vit, merge_tokens=-1)
