"""Query and document prefixes of model families whose own files do not name them.

GTE (``thenlper/gte-*``, ``Alibaba-NLP/gte-*-en-v1.5``), ``bge-m3`` and the MiniLM and MPNet models of
sentence-transformers take text as it is, so they are not here; neither are models that want an instruction in words
of one's own (``*-instruct``, ``e5-mistral``).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coldpress.models.base import LoadedModel
from coldpress.types import TextSpec

logger = logging.getLogger(__name__)

_SEARCH = "Represent this sentence for searching relevant passages: "


@dataclass(frozen=True)
class Family:
    """Models whose names match `names`, the prompts they were trained with, and the model card that says so."""

    names: str
    prompts: Mapping[str, str]
    source: str


_NOMIC = {
    "query": "search_query: ",
    "document": "search_document: ",
    "search_query": "search_query: ",
    "search_document": "search_document: ",
    "classification": "classification: ",
    "clustering": "clustering: ",
}
FAMILIES = (
    Family(
        r"(multilingual-)?e5-(small|base|large)(-v2)?",
        {"query": "query: ", "document": "passage: ", "passage": "passage: "},
        "https://huggingface.co/intfloat/e5-base-v2",
    ),
    Family(
        r"bge-(small|base|large)-en(-v1\.5)?",
        {"query": _SEARCH, "document": ""},
        "https://huggingface.co/BAAI/bge-base-en-v1.5",
    ),
    Family(
        r"bge-(small|base|large)-zh(-v1\.5)?",
        {"query": "为这个句子生成表示以用于检索相关文章：", "document": ""},
        "https://huggingface.co/BAAI/bge-base-zh-v1.5",
    ),
    Family(r"nomic-embed-text-v(1|1\.5|2-moe)", _NOMIC, "https://huggingface.co/nomic-ai/nomic-embed-text-v1.5"),
    Family(r"modernbert-embed-(base|large)", _NOMIC, "https://huggingface.co/nomic-ai/modernbert-embed-base"),
    Family(
        r"mxbai-embed-large-v1",
        {"query": _SEARCH, "document": ""},
        "https://huggingface.co/mixedbread-ai/mxbai-embed-large-v1",
    ),
    Family(
        r"snowflake-arctic-embed-(xs|s|m|l|m-long|m-v1\.5)",
        {"query": _SEARCH, "document": ""},
        "https://huggingface.co/Snowflake/snowflake-arctic-embed-m",
    ),
    Family(
        r"snowflake-arctic-embed-[ml]-v2\.0",
        {"query": "query: ", "document": ""},
        "https://huggingface.co/Snowflake/snowflake-arctic-embed-l-v2.0",
    ),
)


def prompts_of(model: str, directory: Path, config: Mapping[str, object], own: Mapping[str, str]) -> Mapping[str, str]:
    """Return the named prompts of a model: those of its own files, else those of its family, else none.

    Parameters
    ----------
    model : what the user called it: a hub id or a path.
    directory : where it lies; the hub's cache names its directories after the model.
    config : its ``config.json``. What ``_name_or_path`` says counts last: it may be the model that this one was
        fine-tuned from.
    own : the prompts in ``config_sentence_transformers.json``. Where all are empty they are what sentence-transformers
        5 writes for every model, and say nothing.
    """
    if any(own.values()):
        return own
    for name in (model, *_directory_names(directory), str(config.get("_name_or_path", ""))):
        last = re.split(r"[/\\]|--", name.rstrip("/\\"))[-1]
        for family in FAMILIES:
            if re.fullmatch(rf"(?:\w+?_)?{family.names}", last, re.IGNORECASE):
                return family.prompts
    return own


def remind_of_prompts(loaded: LoadedModel) -> None:
    """Warn that a model is used without any of the prompts it was trained with."""
    named = loaded.prompts or {}
    if isinstance(loaded.spec, TextSpec) and not loaded.spec.prompt and any(named.values()):
        choices = ", ".join(f"{name} ({text!r})" for name, text in named.items())
        logger.warning(
            "%s was trained with prompts and none is used; name one with --prompt (prompt=...): %s",
            loaded.name,
            choices,
        )


def _directory_names(directory: Path) -> list[str]:
    """The directory's own name, or what the hub's cache calls a model: ``models--ORG--NAME/snapshots/COMMIT``."""
    path = directory.resolve()
    return [path.parent.parent.name] if path.parent.name == "snapshots" else [path.name]
