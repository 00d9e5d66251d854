"""Backbones: one file a family. `load` turns a directory, a hub id or a module into one that is ready to run."""

from coldpress.models.base import Backbone, Calibration, LoadedModel
from coldpress.models.card import Card, read_card
from coldpress.models.generic import from_module
from coldpress.models.loading import load, modalities
from coldpress.models.options import with_options
from coldpress.models.variant import Variant

__all__ = [
    "Backbone",
    "Calibration",
    "Card",
    "LoadedModel",
    "Variant",
    "from_module",
    "load",
    "modalities",
    "read_card",
    "with_options",
]
