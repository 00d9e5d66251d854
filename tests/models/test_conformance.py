"""What every backbone family promises, checked for each case that the modules beside this one state."""

from __future__ import annotations

import copy
import importlib
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from conformance import (
    FLOOR_ULPS,
    Case,
    Subject,
    Vectors,
    allowed_error,
    equal,
    every_output,
    join,
    largest_error,
    split,
    to_cuda,
    torch_threads,
    upstream_vectors,
)
from fake_gpu import GPU, Watch, assert_nothing_waits, fake_gpu

from coldpress import _library, models, ops
from coldpress.engine.exactness import exact_libraries
from coldpress.errors import ModelError
from coldpress.layers import STORED
from coldpress.models import loading
from coldpress.models.convolutional import ConvolutionalBackbone
from coldpress.types import Output

CASES: list[Case] = [
    case
    for path in sorted(Path(__file__).parent.glob("test_*.py"))
    if path != Path(__file__)
    for case in getattr(importlib.import_module(path.stem), "CASES", ())
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case.family}-{case.name}")
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return Subject(request.param, tmp_path_factory.mktemp("model"))


def test_every_family_has_a_case() -> None:
    families = {module.__name__.rsplit(".", 1)[-1] for module in loading.families().values()}
    assert {case.family for case in CASES} == families


def test_is_served_natively(subject: Subject) -> None:
    assert subject.loaded.family == subject.case.family
    assert subject.loaded.backbone.normalize == subject.case.normalize
    assert subject.loaded.backbone.pooling == subject.case.pooling


def test_error_is_within_k_of_the_frameworks_own(subject: Subject) -> None:
    for output in subject.outputs:
        error, allowed = largest_error(subject.ours, subject.exact, output.name), allowed_error(subject, output.name)
        assert error <= allowed, f"{output.name}: {error:.3g} > {allowed:.3g}"


def test_every_token_and_patch_is_upstreams(subject: Subject) -> None:
    backbone = subject.loaded.backbone
    if backbone.dense is None:
        pytest.skip("has none")
    output = Output("dense", None, "none")
    error = largest_error(backbone(subject.batch, [output]), subject.exact, "dense")
    assert error <= allowed_error(subject, "dense")


def test_references_agree_with_the_kernels(subject: Subject) -> None:
    with ops.ReferenceMode():
        reference = subject.loaded.backbone(subject.batch, subject.outputs)
    for output in subject.outputs:
        assert largest_error(reference, subject.exact, output.name) <= allowed_error(subject, output.name), output.name


@pytest.mark.cuda
def test_cuda_is_within_k_too(subject: Subject) -> None:
    backbone = models.load(subject.directory, modality=subject.case.modality).backbone.to("cuda")
    backbone.prepare()
    with exact_libraries():
        vectors = {name: v.cpu() for name, v in backbone(to_cuda(subject.batch), subject.outputs).items()}
    for output in subject.outputs:
        assert largest_error(vectors, subject.exact, output.name) <= allowed_error(subject, output.name), output.name


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sixteen_bits_on_cuda_are_within_k_too(subject: Subject, precision: str) -> None:
    if precision not in subject.loaded.backbone.precisions:
        pytest.skip(f"no {precision}")
    framework = upstream_vectors(subject, copy.deepcopy(subject.upstream).to(STORED[precision]))
    backbone = models.load(subject.directory, modality=subject.case.modality).backbone.to("cuda")
    backbone.prepare(precision)
    with exact_libraries():
        vectors = {name: v.cpu() for name, v in backbone(to_cuda(subject.batch), subject.outputs).items()}
    assert_as_close_as(vectors, framework, subject, STORED[precision])


def assert_as_close_as(vectors: Vectors, framework: Vectors, subject: Subject, dtype: torch.dtype) -> None:
    """Check the errors of ours against k times upstream's own in a dtype."""
    for output in subject.outputs:
        assert vectors[output.name].dtype == torch.float32
        error, theirs = (largest_error(v, subject.exact, output.name) for v in (vectors, framework))
        floor = FLOOR_ULPS * torch.finfo(dtype).eps * float(subject.exact[output.name].abs().max())
        assert error <= max(subject.case.k * theirs, floor), f"{output.name}: {error:.3g} against {theirs:.3g}"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sixteen_bits_are_within_k_of_the_frameworks_own(subject: Subject, precision: str) -> None:
    """What a GPU runs, op by op in plain torch: shapes and dtypes fit, and nothing is rounded needlessly."""
    if precision not in subject.loaded.backbone.precisions:
        pytest.skip(f"no {precision}")
    dtype = STORED[precision]
    framework = upstream_vectors(subject, copy.deepcopy(subject.upstream).to(dtype))
    backbone = subject.load(precision).backbone
    with ops.ReferenceMode():
        vectors = backbone(subject.batch, subject.outputs)
    assert_as_close_as(vectors, framework, subject, dtype)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp8"])
def test_nothing_waits_for_a_gpu(subject: Subject, precision: str) -> None:
    """What becomes a CUDA graph: op by op without values, everything is and stays on the device."""
    backbone = models.load(subject.directory, modality=subject.case.modality).backbone
    if precision not in backbone.precisions or not backbone.captured:
        pytest.skip(f"no {precision}, or no graph")
    assert_nothing_waits(backbone, subject.batch, precision, subject.outputs)


def test_what_waits_for_a_gpu_is_seen() -> None:
    with fake_gpu(), torch.inference_mode():
        there = torch.zeros(3, device=GPU)
        for waits in (there.cpu, there.tolist, there.nonzero, lambda: torch.ones(3).to(GPU), lambda: there[there > 0]):
            with Watch(), pytest.raises((AssertionError, RuntimeError)):
                waits()


@pytest.mark.parametrize("level", _library.isa_levels())
def test_every_isa_level_gives_the_same_bits(subject: Subject, level: str) -> None:
    with _library.use_isa(level):
        assert equal(subject.loaded.backbone(subject.batch, subject.outputs), subject.ours)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_depends_on_its_item_alone(subject: Subject, threads: int) -> None:
    backbone, items = subject.loaded.backbone, split(subject.batch)
    with torch_threads(threads):
        assert equal(backbone(subject.batch, subject.outputs), subject.ours)
        for b, item in enumerate(items):
            alone = backbone(join([item]), subject.outputs)
            assert equal(alone, {name: v[b : b + 1] for name, v in subject.ours.items()})
        order = [3, 0, 6, 2, 5, 1, 4]
        shuffled = backbone(join([items[b] for b in order]), subject.outputs)
        assert equal(shuffled, {name: v[order] for name, v in subject.ours.items()})


def without_data(subject: Subject) -> set[str]:
    """Precisions that need no calibration."""
    return set(subject.loaded.backbone.precisions) - set(subject.loaded.backbone.calibrated)


@pytest.mark.parametrize("precision", ["int16", "int8"])
def test_integers_are_close_and_as_independent_as_fp32(subject: Subject, precision: str) -> None:
    if precision not in without_data(subject):
        pytest.skip(f"no {precision}")
    cosine = 0.99999 if precision == "int16" else subject.case.int8_cosine
    backbone, items = subject.load(precision).backbone, split(subject.batch)
    vectors = backbone(subject.batch, subject.outputs)
    for name, rows in vectors.items():
        assert torch.cosine_similarity(rows, subject.ours[name]).min() > cosine, name
        assert not torch.equal(rows, subject.ours[name])
    for output in subject.outputs:  # of the last block, only what is asked for is computed
        assert equal(backbone(subject.batch, [output]), {output.name: vectors[output.name]})
    for level in _library.isa_levels():
        with _library.use_isa(level):
            assert equal(backbone(subject.batch, subject.outputs), vectors), level
    for threads in (1, 2, 20):  # 20 are more than there are items: the ops that share an item between threads
        with torch_threads(threads):
            assert equal(backbone(subject.batch, subject.outputs), vectors)
            for b, item in enumerate(items):
                assert equal(
                    backbone(join([item]), subject.outputs), {name: v[b : b + 1] for name, v in vectors.items()}
                )


def test_a_packed_backbone_cannot_change_its_arithmetic(subject: Subject) -> None:
    if "int8" not in without_data(subject):
        pytest.skip("no int8")
    with pytest.raises(ModelError, match="runs in int8 and cannot change to fp32"):
        subject.load("int8").backbone.prepare("fp32")


def test_an_output_does_not_depend_on_which_others_are_asked_for(subject: Subject) -> None:
    for output in subject.outputs:
        vectors = subject.loaded.backbone(subject.batch, [output])
        assert equal(vectors, {output.name: subject.ours[output.name]})


def test_vectors_are_float32_and_as_wide_as_stated(subject: Subject) -> None:
    for output in subject.outputs:
        vectors = subject.ours[output.name]
        assert vectors.shape == (len(subject.batch), subject.loaded.backbone.dim(output))
        assert vectors.dtype == torch.float32


def test_nothing_keeps_a_gradient(subject: Subject) -> None:
    assert not any(p.requires_grad for p in subject.loaded.backbone.parameters())
    vectors = subject.loaded.backbone(subject.batch, subject.outputs)
    assert all(v.grad_fn is None and not v.requires_grad for v in vectors.values())


def test_preparing_twice_changes_nothing(subject: Subject) -> None:
    backbone = copy.deepcopy(subject.loaded.backbone)
    backbone.prepare()
    assert equal(backbone(subject.batch, subject.outputs), subject.ours)


def needed_and_ignored(subject: Subject) -> tuple[dict[str, str], list[str]]:
    """Checkpoint tensors by the name that messages use, and those that the family does not read."""
    family = next(m for m in loading.families().values() if m.__name__.endswith(f".{subject.case.family}"))
    names = {}
    for original in subject.tensors:
        kept = loading.backbone_tensors(family, subject.loaded.backbone.modality, {original: torch.empty(0)})
        names[original] = next(iter(kept), "")
    return {o: n for o, n in names.items() if n}, [o for o, n in names.items() if not n]


def of_each_kind(names: Iterable[str]) -> list[str]:
    """Return the first and the last tensor of those that differ in numbers alone: what every block has, twice."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kinds.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    return sorted({name for kind in kinds.values() for name in (kind[0], kind[-1])})


def test_every_tensor_is_needed(subject: Subject) -> None:
    needed, ignored = needed_and_ignored(subject)
    for name in of_each_kind(needed.keys() - set(subject.case.optional)):
        shown = needed[name]
        rest = {n: t for n, t in subject.tensors.items() if n != name}
        with subject.with_tensors(rest), pytest.raises(ModelError, match="missing") as error:
            subject.load()
        assert shown in str(error.value)
    rest = {n: t for n, t in subject.tensors.items() if n not in ignored}
    with subject.with_tensors(rest):
        assert subject.load().weights == subject.loaded.weights


def test_every_tensor_changes_the_vectors_and_the_fingerprint(subject: Subject) -> None:
    needed, ignored = needed_and_ignored(subject)
    generator = torch.Generator().manual_seed(2)
    for name in of_each_kind(subject.tensors):
        tensor = subject.tensors[name]
        noise = torch.randn(tensor.shape, generator=generator)
        other = tensor + noise if tensor.is_floating_point() else tensor.roll(1)
        with subject.with_tensors(subject.tensors | {name: other}):
            loaded = subject.load()
        vectors = loaded.backbone(subject.batch, subject.outputs)
        assert equal(vectors, subject.ours) == (name in ignored), name
        assert (loaded.weights == subject.loaded.weights) == (name in ignored), name
    assert needed


def test_a_tensor_of_another_shape_is_named(subject: Subject) -> None:
    needed = needed_and_ignored(subject)[0]
    for name in of_each_kind(needed):
        shown, tensor = needed[name], subject.tensors[name]
        axes = set(range(tensor.dim())) - set(subject.case.free.get(name, ()))
        shapes = [(*tensor.shape[:axis], tensor.shape[axis] + 1, *tensor.shape[axis + 1 :]) for axis in axes]
        for shape in shapes:
            changed = subject.tensors | {name: torch.zeros(shape)}
            with subject.with_tensors(changed), pytest.raises(ModelError, match="wrong shape") as error:
                subject.load()
            message = str(error.value)
            assert f"{shown} is {shape}, not {tuple(tensor.shape)}" in message


def test_a_tensor_that_no_parameter_wants_is_named(subject: Subject) -> None:
    changed = subject.tensors | {"encoder.surprise.weight": torch.zeros(3)}
    with (
        subject.with_tensors(changed),
        pytest.raises(ModelError, match=r"unexpected: encoder\.surprise\.weight"),
    ):
        subject.load()


def test_first_blocks_alone_are_the_network_without_the_others(subject: Subject) -> None:
    whole = models.load(subject.directory, modality=subject.case.modality).backbone
    if isinstance(whole, ConvolutionalBackbone) or not whole.depth:
        pytest.skip("no transformer")
    cut = models.load(subject.directory, modality=subject.case.modality, layers=1).backbone
    whole.blocks, whole.depth = whole.blocks[:1], 1
    for backbone in (whole, cut):
        backbone.prepare()
    outputs = every_output(1)
    assert equal(cut(subject.batch, outputs), whole(subject.batch, outputs))
