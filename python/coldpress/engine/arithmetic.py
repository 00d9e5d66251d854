"""The arithmetic of an extractor: chosen once, by data or by a store, and what computes in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from coldpress.data import Peeked
from coldpress.engine.certificate import certify, require
from coldpress.engine.compute import Computer, calibrated
from coldpress.engine.plan import sample_size
from coldpress.engine.precision import Choice, candidates, choose_layers, choose_precision
from coldpress.engine.reduction import Reduction
from coldpress.engine.sample import Sample, prepare_items, take_sample
from coldpress.engine.settle import Attempt, attempts, first_passing
from coldpress.errors import ColdpressError, ItemError
from coldpress.models import LoadedModel
from coldpress.preprocess import Preprocessor
from coldpress.types import Certificate, Output


class Arithmetic:
    """What a model computes in, fp32 until it is settled.

    Attributes
    ----------
    model : with the calibration and the packed backbone of the mode.
    choice : the mode now.
    candidates : modes that data may decide between; none once it is settled.
    """

    def __init__(
        self,
        model: LoadedModel,
        outputs: Sequence[Output],
        device: torch.device,
        *,
        precision: str,
        layer_precision: Mapping[str, str],
        threads: int | None,
        reduction: Reduction,
    ) -> None:
        self.model, self._outputs, self._device = model, tuple(outputs), device
        self._threads, self._reduction = threads, reduction
        self._computer: Computer | None = None
        backbone = model.backbone
        runnable = backbone.runnable() if precision == "auto" else backbone.precisions
        kind = (runnable, device.type)
        self.choice = choose_precision(precision, *kind)
        self.candidates = candidates(precision, *kind)
        if len(self.candidates) == 1 and not self._uncalibrated(self.choice.mode):
            self.choice, self.candidates = self.candidates[0], ()
        if layer_precision:
            if precision == "auto":
                raise ColdpressError("layer_precision needs a precision for the other layers; got auto")
            self.choice = choose_layers(self.choice, layer_precision, backbone.linears(), *kind)

    @property
    def computer(self) -> Computer:
        """What computes now."""
        if self._computer is None:
            self._computer = self.build(self.choice)
        return self._computer

    @property
    def reduction(self) -> Reduction:
        """What the vectors are reduced to."""
        return self._reduction

    @reduction.setter
    def reduction(self, reduction: Reduction) -> None:
        self._reduction = reduction
        self._computer = self.computer.reduced(reduction)

    def options(self) -> dict[str, Any]:
        """The arguments of an extractor that computes in the mode that was settled on."""
        if self.candidates:
            return {}
        layers, calibration = dict(self.choice.layers), self.model.calibration
        return {"precision": self.choice.mode, "layer_precision": layers, "calibration": calibration}

    def build(self, choice: Choice, sample: Sample | None = None) -> Computer:
        """What computes in a mode; `sample` calibrates one that needs it."""
        if sample is not None and self._uncalibrated(choice.mode):
            self.model = calibrated(self.model, self._outputs, sample.inputs[::2])
        made = self._computer
        if made is not None and (made.precision, made.layer_precision) == (choice.mode, choice.layers):
            return made
        computer = Computer(self.model, self._outputs, self._device, choice.mode, self._threads, choice.layers)
        return computer.reduced(self._reduction)

    def settle(self, sample: Sample) -> Certificate:
        """Take the fastest mode whose certificate passes on a sample."""
        decision = first_passing(self.candidates, lambda choice: self.build(choice, sample), sample)
        self._use(decision.choice, decision.compute)
        return decision.certificate

    def settle_on(self, source: Peeked, preprocess: Preprocessor) -> Certificate | None:
        """Choose a mode by the first items of a source; without a good one among them it is fp32.

        Raises
        ------
        CertificateError, ItemError
            If the vectors are too far from the reference; if a mode needs to see data and there is none.
        """
        prepared = prepare_items(preprocess, source.head)
        contents = [item.content for item in source.head]
        sample = take_sample(preprocess, contents, prepared, sample_size(source.count, preprocess.modality))
        if not sample and len(self.candidates) == 1:
            mode = self.choice.mode
            raise ItemError(f"none of the first items can be embedded, so that {mode} learns nothing of them")
        if not sample:
            self._use(
                Choice("fp32", "none of the first items can be embedded, so that no other mode could be certified")
            )
            return None
        certificate = self.settle(sample)
        require(certificate)
        return certificate

    def settle_as(self, stored: Choice) -> None:
        """Take the mode of a store."""
        self.model = replace(self.model, calibration=stored.calibration)
        self._use(stored)

    def certify(self, sample: Sample) -> Certificate:
        """The certificate of the mode on a sample, which settles it if nothing has yet."""
        return self.settle(sample) if self.candidates else certify(self.computer, sample)

    def attempts(self, sample: Sample) -> Iterator[Attempt]:
        """Try every mode that may pay, without settling on one."""
        return attempts(self.candidates or (self.choice,), lambda choice: self.build(choice, sample), sample)

    def _uncalibrated(self, mode: str) -> bool:
        return mode in self.model.backbone.calibrated and self.model.calibration is None

    def _use(self, choice: Choice, computer: Computer | None = None) -> None:
        """Take a mode for good."""
        self.choice, self.candidates = choice, ()
        self._computer = computer or self.build(choice)
        self.model = replace(self.model, backbone=self._computer.backbone)
