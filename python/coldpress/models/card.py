"""What a model's own card says about its licence and about what it was trained on."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_ABOUT_DATA = re.compile(r"^#+\s*(pre-?)?train\w*[ -]+data|^#+\s*(data|datasets?)\s*$", re.IGNORECASE)
_TRAINED = re.compile(r"[^.!?]*\btrained (on|with|over|using)\b[^.!?]*(?:[.!?]\w[^.!?]*)*[.!?]?", re.IGNORECASE)


@dataclass(frozen=True)
class Card:
    """Facts for people; None or empty where the card does not have them.

    `datasets` and `languages` are of the training data, `base` is the model this one was made from, `training` a
    sentence or two of the card's own about its data.
    """

    license: str | None = None
    datasets: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    base: tuple[str, ...] = ()
    training: str | None = None


def read_card(directory: Path) -> Card:
    """Read ``README.md`` of a model directory, or of the one around it; timm's ``config.json`` has a licence too.

    A card that cannot be read is none: it changes no vector.
    """
    around = [directory.parent] if (directory.parent / "modules.json").is_file() else []
    path = next((d / "README.md" for d in (directory, *around) if (d / "README.md").is_file()), None)
    text = "" if path is None else path.read_text(encoding="utf-8", errors="replace")
    stated = {} if path is None else _front_matter(path)
    licence = _names(stated, "license_name") or _names(stated, "license") or _timm_license(directory)
    return Card(
        license=", ".join(licence) or None,
        datasets=_names(stated, "datasets"),
        languages=_names(stated, "language"),
        base=_names(stated, "base_model"),
        training=_training(re.sub(r"\A---\r?\n.*?\n---\r?\n", "", text, flags=re.DOTALL)),
    )


def _front_matter(path: Path) -> Mapping[str, Any]:
    from huggingface_hub.repocard import metadata_load

    try:
        return metadata_load(path) or {}
    except Exception as error:  # YAML's and the hub's own
        logger.warning("%s: its front matter cannot be read (%s)", path, str(error).splitlines()[0])
        return {}


def _names(stated: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = stated.get(key) or ()
    return tuple(str(name) for name in (value if isinstance(value, list | tuple) else [value]))


def _timm_license(directory: Path) -> tuple[str, ...]:
    try:
        config = json.loads((directory / "config.json").read_bytes())
    except (OSError, ValueError):
        return ()
    cfg = config.get("pretrained_cfg") if isinstance(config, dict) else None
    return _names(cfg, "license") if isinstance(cfg, dict) else ()


def _training(text: str) -> str | None:
    """The first paragraph below a heading about data, else the first sentence that says what a model was trained on."""
    lines = re.sub(r"```.*?```", "", text, flags=re.DOTALL).splitlines()
    about = next((i for i, line in enumerate(lines) if _ABOUT_DATA.match(line)), None)
    below = _first_paragraph(lines[about + 1 :]) if about is not None else None
    if below:
        return below
    prose = " ".join(_plain(line) for line in lines if line and not line.startswith(("#", "|", "<", "!")))
    found = _TRAINED.search(prose)
    return found[0].strip() if found else None


def _first_paragraph(lines: list[str]) -> str:
    paragraph: list[str] = []
    for line in lines:
        if line.startswith(("#", "|")) or (paragraph and not line.strip()):
            break
        if line.strip():
            paragraph.append(_plain(line))
    return " ".join(paragraph)


def _plain(line: str) -> str:
    """A line without the marks of Markdown."""
    return re.sub(r"[*`]", "", re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", line)).strip()
