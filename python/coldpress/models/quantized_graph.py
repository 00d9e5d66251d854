"""A network as a graph of OpenVINO, and which of its values are rounded to eight bits.

OpenVINO runs a layer on integers where it finds its weight and its input marked as quantised, and hands on bytes where
everything that reads a value reads it through one mark. Marks stand

- on the input of every convolution and linear layer, one range a value, and on their weights, one a channel;
- on both sides of a sum that a convolution ends in, so that it can be a part of that convolution (ResNet-50: -6 % of
  the time; 1 - cosine 1.32e-4 -> 1.36e-4);
- in front of a maximum rather than behind it: the same values, and it runs on bytes (0.57 -> 0.08 ms).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from coldpress.errors import ModelError
from coldpress.models.workers import single_threaded_workers

Ranges = Mapping[str, Sequence[float]]

_LAYERS = ("Convolution", "GroupConvolution", "MatMul")
_LEVELS = 255


class Value(NamedTuple):
    """Something a graph computes, and the inputs that are to read it quantised."""

    source: Any
    readers: list[Any]


def trace(network: nn.Module, example: torch.Tensor) -> Any:
    """Return the graph of a network; through the front end itself, for `convert_model` reports to its vendor.

    Tracing runs it four times, on one thread: ResNet-50 took 1.4 s, and 9 s on two threads that others used too.
    """
    from openvino._offline_transformations import apply_moc_transformations
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    def decode() -> Any:
        with torch.no_grad():
            return TorchScriptPythonDecoder(network, example_input=(example,))

    with warnings.catch_warnings(), single_threaded_workers(1) as worker:
        warnings.simplefilter("ignore")  # of tracing: that sizes are fixed, as they are meant to be
        decoder = worker.submit(decode).result()
    frontend = FrontEndManager().load_by_framework("pytorch")
    graph = frontend.convert(frontend.load(decoder))
    graph.reshape(list(example.shape))
    apply_moc_transformations(graph, cf=False)  # weights become constants, normalisations part of them
    return graph


def compiled(graph: Any, threads: int) -> Any:
    """Return the graph ready to run, with a stream for each thread."""
    import openvino

    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "THROUGHPUT",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
    }
    return openvino.Core().compile_model(graph, "CPU", options)


def observed(graph: Any, images: torch.Tensor) -> dict[str, list[float]]:
    """Return the range of every value that is to be quantised, over images (N, height, width, 3) uint8."""
    values = _values(graph)
    before = len(graph.outputs)
    graph.add_outputs([value.source for value in values.values()])
    request = compiled(graph, 1).create_infer_request()
    low, high = np.zeros(len(values)), np.zeros(len(values))  # zero itself has to be exact: padding
    for image in images:
        request.infer({0: image.numpy()})
        found = [tensor.data for tensor in request.output_tensors[before:]]
        low = np.minimum(low, [value.min() for value in found])
        high = np.maximum(high, [value.max() for value in found])
    return {name: [float(a), float(b)] for name, a, b in zip(values, low, high, strict=True)}


def quantise(graph: Any, ranges: Ranges) -> None:
    """Mark weights and values of a graph as quantised.

    Raises
    ------
    ModelError
        If the ranges are those of another network.
    """
    values = _values(graph)
    if values.keys() != ranges.keys():
        raise ModelError(
            "the calibration of this store is that of another network, of another OpenVINO or of another version of "
            "coldpress: embed into a new store"
        )
    for layer in _layers(graph):
        weight = layer.input_value(1)
        numbers = weight.get_node().get_data()
        kept = _channel_axes(layer, numbers.ndim)
        peak = np.abs(numbers).max(axis=tuple(i for i in range(numbers.ndim) if i not in kept), keepdims=True)
        peak = np.maximum(peak, 1e-8).astype(np.float32)
        layer.input(1).replace_source_output(_mark(weight, -peak, peak, _LEVELS))
    for name, value in values.items():
        low, high = ranges[name]
        step = max(high - low, 1e-8) / _LEVELS
        zero = round(-low / step)
        marked = _mark(value.source, np.float32(-zero * step), np.float32((_LEVELS - zero) * step), _LEVELS + 1)
        for reader in value.readers:
            reader.replace_source_output(marked)
    graph.validate_nodes_and_infer_types()


def weight_count(graph: Any) -> int:
    """Return how many weights the layers of a graph have: of what is quantised, as many bytes."""
    return sum(prod(layer.input_value(1).get_shape()) for layer in _layers(graph))


def _values(graph: Any) -> dict[str, Value]:
    """What to quantise, in order; named by number, kind and shape of the first reader: OpenVINO's names count up."""
    found: dict[tuple[str, int], Value] = {}
    names: list[str] = []
    layers = {layer.get_friendly_name(): layer.input_value(1).get_shape() for layer in _layers(graph)}
    for node in graph.get_ordered_ops():
        shape = layers.get(node.get_friendly_name())
        readers = [node.input(0)] if shape is not None else node.inputs() if _ends_convolution(node) else []
        for reader in map(_in_front_of_maximum, readers):
            source = reader.get_source_output()
            at = source.get_node().get_friendly_name(), source.get_index()
            if at not in found:
                sides = "x".join(map(str, shape or node.get_output_shape(0)))
                names.append(f"{len(names)} {node.get_type_name()} {sides}")
                found[at] = Value(source, [])
            found[at].readers.append(reader)
    return dict(zip(names, found.values(), strict=True))


def _layers(graph: Any) -> list[Any]:
    """Layers with constant weights, in order."""
    kinds = (node for node in graph.get_ordered_ops() if node.get_type_name() in _LAYERS)
    return [node for node in kinds if _is_constant(node.input_value(1))]


def _ends_convolution(node: Any) -> bool:
    """Whether a node adds something that was computed to what a convolution, with or without a bias, returns."""
    if node.get_type_name() != "Add" or any(_is_constant(value) for value in node.input_values()):
        return False
    for term in (value.get_node() for value in node.input_values()):
        biased = term.get_type_name() == "Add" and _is_constant(term.input_value(1))
        if (term.input_value(0).get_node() if biased else term).get_type_name() in _LAYERS[:2]:
            return True
    return False


def _in_front_of_maximum(reader: Any) -> Any:
    node = reader.get_source_output().get_node()
    return _in_front_of_maximum(node.input(0)) if node.get_type_name() == "MaxPool" else reader


def _is_constant(value: Any) -> bool:
    return bool(value.get_node().get_type_name() == "Constant")


def _channel_axes(layer: Any, dims: int) -> tuple[int, ...]:
    """Axes of a weight that count output channels."""
    if layer.get_type_name() == "MatMul":
        return (dims - 2 if layer.get_attributes()["transpose_b"] else dims - 1,)
    return (0, 1) if layer.get_type_name() == "GroupConvolution" else (0,)


def _mark(source: Any, low: Any, high: Any, levels: int) -> Any:
    from openvino import opset13

    bounds = [opset13.constant(bound) for bound in (low, high, low, high)]
    return opset13.fake_quantize(source, *bounds, levels).output(0)
