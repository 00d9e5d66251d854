"""Licence and training data, as far as a model's own card states them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coldpress.models import Card, read_card

DINO = """---
license: other
license_name: dinov3-license
datasets: imagenet-1k
base_model:
- someone/bigger
---

# A model

A vision model pre-trained on **ImageNet-1k** (1.2 million images, [paper](https://example.org)) at 224x224. More of it.

## Uses
"""


def test_front_matter_and_the_sentence_about_training(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(DINO)
    sentence = "A vision model pre-trained on ImageNet-1k (1.2 million images, paper) at 224x224."
    assert read_card(tmp_path) == Card("dinov3-license", ("imagenet-1k",), (), ("someone/bigger",), sentence)


def test_a_section_about_training_data_comes_first(minilm: Path) -> None:
    card = read_card(minilm)
    assert (card.license, card.languages, card.datasets[0]) == ("apache-2.0", ("en",), "s2orc")
    assert card.training is not None
    assert card.training.startswith("We use the concatenation from multiple datasets")


def test_the_card_lies_around_the_modules_of_sentence_transformers(tmp_path: Path) -> None:
    (tmp_path / "0_Transformer").mkdir()
    (tmp_path / "README.md").write_text(DINO)
    assert read_card(tmp_path / "0_Transformer") == Card()
    (tmp_path / "modules.json").write_text("[]")
    assert read_card(tmp_path / "0_Transformer").license == "dinov3-license"


def test_timm_states_a_licence_in_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {"license": "cc-by-nc-4.0"}}))
    assert read_card(tmp_path).license == "cc-by-nc-4.0"


@pytest.mark.parametrize("text", ["", "no front matter", "---\n: [\n---\n", "---\nlicense:\n---\n", "\xff"])
def test_a_card_that_says_nothing_is_no_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(text, encoding="latin-1")
    assert read_card(tmp_path) == Card()
