"""ALBERT: tiny cases for the conformance suite, and blocks that share their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conformance import Case, load_ready, randomise, text_batch, write_files
from test_bert import TOKENIZER, VOCABULARY
from transformers import AlbertConfig, AlbertForMaskedLM, AlbertModel

from coldpress import models
from coldpress.errors import ModelError
from coldpress.types import Output


def config(depth: int = 2, groups: int = 2, **changed: Any) -> AlbertConfig:
    sizes = {"hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 40, "embedding_size": 16}
    stated = {"vocab_size": len(VOCABULARY), "max_position_embeddings": 33, "num_hidden_layers": depth} | sizes
    return AlbertConfig(**stated | {"num_hidden_groups": groups} | changed)


CASES = [  # a block of its own for each layer, so that upstream's can be told apart
    Case("albert", "albert", lambda: AlbertModel(config()), TOKENIZER, "mean"),
    Case("task_head", "albert", lambda: AlbertForMaskedLM(config(hidden_act="gelu")), TOKENIZER, "mean",
         tower=lambda model: model.albert),
]  # fmt: skip


@pytest.mark.parametrize(("depth", "groups"), [(4, 1), (5, 2), (3, 3)])
@pytest.mark.parametrize("precision", ["fp32", "int16"])
def test_blocks_that_share_weights(depth: int, groups: int, precision: str, tmp_path: Path) -> None:
    upstream = randomise(AlbertModel(config(depth, groups)).eval())
    upstream.save_pretrained(tmp_path)
    write_files(tmp_path, TOKENIZER)
    loaded = load_ready(tmp_path, precision)
    assert len({id(block) for block in loaded.backbone.blocks}) == groups
    texts = [torch.randint(0, len(VOCABULARY), (n,)) for n in (5, 1, 33, 12)]
    outputs = [Output(f"layer:{k}", k, "cls") for k in range(1, depth + 1)]
    ours = loaded.backbone(text_batch(texts), outputs)
    for row, ids in enumerate(texts):
        with torch.no_grad():
            layers = upstream(input_ids=ids[None], output_hidden_states=True).hidden_states[1:]
        for output, expected in zip(outputs, layers, strict=True):
            error = (ours[output.name][row] - expected[0, 0]).abs().max()
            assert error <= (1e-5 if precision == "fp32" else 2e-2) * expected.abs().max()


@pytest.mark.parametrize("layers", [1, 3, 4])
def test_first_blocks_of_those_that_share_weights(layers: int, tmp_path: Path) -> None:
    randomise(AlbertModel(config(5, 2)).eval()).save_pretrained(tmp_path)
    write_files(tmp_path, TOKENIZER)
    whole, cut = load_ready(tmp_path).backbone, models.load(tmp_path, layers=layers).backbone
    cut.prepare()
    batch = text_batch([torch.arange(5), torch.arange(9)])
    assert cut.depth == layers
    output = [Output("there", layers, "cls")]
    assert torch.equal(cut(batch, output)["there"], whole(batch, output)["there"])


def test_groups_of_several_blocks_are_refused(tmp_path: Path) -> None:
    AlbertModel(config(inner_group_num=2)).save_pretrained(tmp_path)
    write_files(tmp_path, TOKENIZER)
    with pytest.raises(ModelError, match="inner_group_num 2, expected 1"):
        load_ready(tmp_path)
