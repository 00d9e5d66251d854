"""Options that several commands share, spelled once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from coldpress._urls import is_url

if TYPE_CHECKING:
    from coldpress.data import Columns
    from coldpress.types import Modality


def local_path(value: str) -> Path:
    """Parse a path; of a URL it would silently become a directory here with the name of the protocol."""
    if is_url(value):
        raise typer.BadParameter(f"{value}: is a URL, expected a path of this machine")
    return Path(value)


def report_path(value: str) -> Path:
    """Parse the path of a report, and say now, not after minutes, that it cannot be written."""
    from coldpress.errors import ColdpressError
    from coldpress.report import check_page

    path = local_path(value)
    try:
        check_page(path)
    except ColdpressError as error:
        raise typer.BadParameter(str(error)) from error
    return path


_READING, _MODEL, _MACHINE = "Reading", "Model", "Machine"


def seed_option(what: str, panel: str | None = None) -> Any:
    """``--seed N`` for `what`; its bounds are what NumPy, scikit-learn and faiss all take."""
    return typer.Option(metavar="N", min=0, max=2**31 - 1, help=what, rich_help_panel=panel)


class Precision(str, Enum):
    """Arithmetic of the forward pass."""

    AUTO = "auto"
    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT16 = "int16"
    INT8 = "int8"
    FP8 = "fp8"


class ModalityChoice(str, Enum):
    """What is embedded, by a model with a tower for each."""

    IMAGE = "image"
    TEXT = "text"

    def of(self) -> Modality:
        """As the rest of coldpress calls it."""
        return "image" if self is ModalityChoice.IMAGE else "text"


Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="Directory of images or a saved dataset, image files, .txt, .jsonl, .csv, .tsv, .parquet, .arrow, .tar "
        "(also compressed), a pattern, or a URL such as s3://…",
        show_default=False,
    ),
]
StorePaths = Annotated[
    list[str],
    typer.Argument(
        metavar="STORE", help="Written by coldpress embed: directories or URLs of one space.", show_default=False
    ),
]
"""Never a Path: that would make one slash of the two in a URL."""
TextColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN", help="Column with the text. [dim]Default: found by its name.[/]", rich_help_panel=_READING
    ),
]
ImageColumn = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Column with the image or its path.", rich_help_panel=_READING)
]
KeyColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN", help="Column with unique keys. [dim]Default: file and line.[/]", rich_help_panel=_READING
    ),
]
LabelColumn = Annotated[
    str | None, typer.Option(metavar="COLUMN", help="Column to keep as the label.", rich_help_panel=_READING)
]
MetadataColumn = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="More columns to keep, * for all; may be repeated.", rich_help_panel=_READING),
]
Limit = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Read only the first so many items.", rich_help_panel=_READING)
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision",
        metavar="MODE",
        help="Arithmetic: fp32, fp16, bf16, int16, int8, fp8, or auto: the fastest that passes its certificate.",
        rich_help_panel=_MODEL,
    ),
]
ModalityOption = Annotated[
    ModalityChoice | None,
    typer.Option(
        "--modality",
        help="Which tower of CLIP or SigLIP. [dim]Default: by the column or the names of the sources, else image.[/]",
        rich_help_panel=_MODEL,
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|DIRECTORY",
        help="What the weights are if MODEL is one file: timm's name, or a directory with all but weights.",
        rich_help_panel=_MODEL,
    ),
]
Layers = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Run only the first N blocks of a transformer: faster.", rich_help_panel=_MODEL
    ),
]
MergeTokens = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        help="Let every block of a vision transformer merge the N most similar patches: faster.",
        rich_help_panel=_MODEL,
    ),
]
ImageSize = Annotated[
    str | None,
    typer.Option(
        metavar="N|HxW|native[:N]",
        help="Side, or height and width, of the images that the network sees; or every image in its own shape, with at "
        "most N patches. [dim]Default: the model's own size.[/]",
        rich_help_panel=_MODEL,
    ),
]
ModelOverride = Annotated[
    str | None,
    typer.Option("--model", metavar="MODEL", help="Where the model lies now, if it has moved.", rich_help_panel=_MODEL),
]
ArchOverride = Annotated[
    str | None,
    typer.Option(
        "--arch",
        metavar="NAME|DIRECTORY",
        help="What the one file that is the model is, if that has moved.",
        rich_help_panel=_MODEL,
    ),
]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda or cuda:N.", rich_help_panel=_MACHINE)]
Threads = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="CPU threads. [dim]Default: all.[/]", rich_help_panel=_MACHINE)
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Threads that read and decode. [dim]Default: by kind of data.[/]",
        rich_help_panel=_MACHINE,
    ),
]

Stores = Annotated[
    list[str],
    typer.Argument(
        metavar="STORE",
        help="Written by coldpress embed. Several of the same items are compared.",
        show_default=False,
    ),
]
Labels = Annotated[
    str,
    typer.Option(
        metavar="COLUMN|FILE",
        help="Metadata column, or a .csv, .jsonl or .parquet file with key and label.",
        show_default=False,
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="Write one page of figures too: .html, or .png where there is a Chrome or Chromium.",
        parser=report_path,
        rich_help_panel="Reporting",
    ),
]


def columns(
    text: str | None, image: str | None, key: str | None, label: str | None, metadata: list[str] | None = None
) -> Columns:
    """The column options as one value."""
    from coldpress.data import Columns

    kept = tuple(metadata or ())
    return Columns(text=text, image=image, key=key, label=label, metadata="*" if "*" in kept else kept)


def memory_of(value: str) -> int:
    """Read ``4GB`` or ``500 MB`` as bytes."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT])i?B?\s*", value, re.IGNORECASE)
    if match is None:
        raise typer.BadParameter(f"--memory is {value!r}, expected a number with a unit, such as 4GB")
    return int(float(match[1]) * 1024 ** (1 + "KMGT".index(match[2].upper())))


def image_size_of(value: str | None) -> int | tuple[int, int] | str | None:
    """Read ``224`` or ``224x320``; ``native`` is for the model to read."""
    if value is None or value.startswith("native"):
        return value
    sides = re.fullmatch(r"(\d+)(?:x(\d+))?", value)
    if sides is None:
        raise typer.BadParameter(f"--image-size is {value!r}, expected a number, HEIGHTxWIDTH, native or native:N")
    return int(sides[1]) if sides[2] is None else (int(sides[1]), int(sides[2]))


def modality_of(
    model: str,
    choice: ModalityChoice | None,
    sources: Sequence[str],
    text_column: str | None = None,
    image_column: str | None = None,
    *,
    arch: str | None = None,
) -> Modality | None:
    """The tower that was asked for, else the one that the sources are for; None where the model has but one."""
    from coldpress import models

    if choice is not None:
        return choice.of()
    if arch is not None or len(models.modalities(model)) < 2:
        return None
    named = text_column is not None and image_column is None
    return "text" if named or all(re.search(r"\.txt(\.\w+)?$", source) for source in sources) else "image"
