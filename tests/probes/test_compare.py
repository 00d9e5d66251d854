"""What variants of a model are said to cost and bring."""

from __future__ import annotations

import json

import numpy as np
import pytest

from coldpress import Extractor
from coldpress.data import Columns, open_source
from coldpress.errors import ColdpressError
from coldpress.probes import Cut, Recipe, compare_variants, draw_labelled, fit_probe
from coldpress.probes.variants import pareto
from coldpress.types import Failed, Item


def news(shared, count):
    path = shared / "text" / "ag_news" / "test.jsonl"
    items = list(open_source(path, modality="text", columns=Columns(label="label"), limit=count).items())
    return items, [item.metadata["label"] for item in items]


@pytest.fixture(scope="module")
def compared(minilm, shared):
    items, labels = news(shared, 120)
    items += [Item("gone", Failed("cannot be read"))]
    names: list[str] = []
    found = compare_variants(
        ((Cut(layers), Extractor(minilm, device="cpu", layers=layers)) for layers in (2, None)),
        items,
        [*labels, labels[0]],
        samples=32,
        seed=1,
        on_variant=names.append,
    )
    assert "2 layers, fp32" in names
    return found


def test_the_whole_network_in_fp32_comes_first_and_is_the_yardstick(compared):
    whole = compared.variants[0]
    assert (whole.cut, whole.precision) == (Cut(), "fp32")
    assert (whole.change, whole.change_interval) == (0.0, (0.0, 0.0))
    assert (whole.overlap, whole.cosine_mean) == (1.0, 1.0)
    assert len({(variant.cut, variant.precision) for variant in compared.variants}) == len(compared.variants)


def test_a_network_cut_short_has_its_own_vectors_and_no_cosine_with_the_whole(compared):
    whole = compared.variants[0]
    cut = next(variant for variant in compared.variants if variant.cut.layers == 2 and variant.precision == "fp32")
    assert cut.weight_bytes < whole.weight_bytes
    assert cut.cosine_mean is None
    assert cut.overlap < 1
    assert cut.certificate.passed


def test_accuracy_is_that_of_a_probe_on_a_store(compared, minilm, shared, tmp_path):
    items, labels = news(shared, 120)
    store = Extractor(minilm, device="cpu", precision="fp32").embed_to(
        tmp_path / "store", shared / "text" / "ag_news" / "test.jsonl", limit=120, dtype="float32"
    )
    expected = fit_probe(store, labels, recipe=Recipe(seed=1))
    assert compared.variants[0].evaluation == expected.evaluation
    assert (compared.train_items, compared.test_items) == (expected.train_items, expected.test_items)
    assert compared.failed == 1
    assert len(items) == expected.train_items + expected.test_items


def test_the_fastest_is_optimal_and_all_is_plain_json(compared):
    fastest = max((variant for variant in compared.variants if not variant.refused), key=lambda one: one.items_per_s)
    assert fastest.optimal
    assert json.loads(json.dumps(compared.to_json()))["variants"][0]["layers"] is None


def test_a_mode_that_fails_its_certificate_is_listed_with_the_reason(outliers, shared):
    items, labels = news(shared, 60)
    extractors = ((Cut(), Extractor(outliers, device="cpu", precision=mode)) for mode in ("int8", "fp32"))
    exact, coarse = compare_variants(extractors, items, labels, samples=32).variants
    assert exact.refused is None
    assert coarse.precision == "int8"
    assert "at least 0.995" in coarse.refused
    assert coarse.evaluation is not None
    assert not coarse.optimal


def test_without_labels_only_the_sample_is_embedded(minilm, shared):
    items, _ = news(shared, 50)
    found = compare_variants([(Cut(), Extractor(minilm, device="cpu", precision="fp32"))], items, samples=16)
    (whole,) = found.variants
    assert whole.certificate.samples == 16
    assert (whole.evaluation, whole.change, found.test_items) == (None, None, 0)


def test_there_has_to_be_something_to_compare_with(minilm, shared):
    items, labels = news(shared, 40)
    with pytest.raises(ColdpressError, match="the whole network in fp32 is not among"):
        compare_variants([(Cut(2), Extractor(minilm, device="cpu", precision="fp32", layers=2))], items, labels)


def test_pareto_keeps_what_nothing_dominates():
    rng = np.random.default_rng(0)
    points = [tuple(map(float, point)) for point in rng.integers(0, 5, (60, 3))]
    for point, kept in zip(points, pareto(points), strict=True):
        assert kept == (not any(other != point and (np.array(other) >= point).all() for other in points))


def stream(count, label):
    return (Item(f"item {i}", "text", "", {"class": label(i)}) for i in range(count))


def test_a_draw_reaches_the_end_of_a_sorted_source_in_its_order():
    drawn = draw_labelled(stream(10_000, lambda i: "ant" if i < 5000 else "bee"), "class", 400)
    assert (len(drawn.items), drawn.labelled, drawn.read) == (400, 10_000, 10_000)
    assert 150 < (drawn.labels == "bee").sum() < 250
    numbers = [int(item.key.split()[1]) for item in drawn.items]
    assert numbers == sorted(set(numbers))
    assert drawn.labels.tolist() == [item.metadata["class"] for item in drawn.items]


def test_a_draw_has_a_seed_and_passes_over_what_has_no_label():
    def draw(seed):
        return draw_labelled(stream(1000, lambda i: None if i % 2 else 7), "class", 50, seed=seed)

    assert draw(3).items == draw(3).items
    assert draw(3).items != draw(4).items
    assert draw(3).labelled == 500


def test_labels_come_from_a_file_by_key(tmp_path):
    (tmp_path / "labels.csv").write_text("key,label\nitem 2,bee\nitem 0,ant\nelsewhere,ant\n")
    drawn = draw_labelled(stream(5, lambda i: None), str(tmp_path / "labels.csv"), 10)
    assert [item.key for item in drawn.items] == ["item 0", "item 2"]
    assert drawn.labels.tolist() == ["ant", "bee"]


def test_nothing_labelled_is_an_error_that_says_what_there_is(tmp_path):
    with pytest.raises(ColdpressError, match=r"column 'kind' holds no label for the 3 items .*there are class"):
        draw_labelled(stream(3, str), "kind", 10)
    (tmp_path / "labels.csv").write_text("key,label\nelsewhere,ant\n")
    with pytest.raises(ColdpressError, match=r"labels.csv labels none of the 3 items .*such as 'item 0'"):
        draw_labelled(stream(3, str), tmp_path / "labels.csv", 10)
