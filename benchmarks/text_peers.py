"""MiniLM in the engines that a user would pick instead, each a function from texts to unit vectors (N, 384)."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sentence_transformers import SentenceTransformer

Vectors = npt.NDArray[np.float32]
Embed = Callable[[list[str]], Vectors]
Batch = Mapping[str, npt.NDArray[np.int64]]

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
WIDTH = 384


class Tokenised:
    """Texts sorted by length and padded batch by batch: the usual remedy against padding, for every peer alike."""

    def __init__(self, upstream: SentenceTransformer) -> None:
        self.tokenizer, self.most = upstream.tokenizer, upstream.max_seq_length

    def encode(self, texts: list[str], **options: Any) -> Any:
        return self.tokenizer(texts, truncation=True, max_length=self.most, **options)

    def batches(self, texts: list[str], size: int) -> Iterator[tuple[npt.NDArray[np.intp], Batch]]:
        lengths = [len(ids) for ids in self.encode(texts)["input_ids"]]
        order = np.argsort(lengths, kind="stable")
        for begin in range(0, len(texts), size):
            index = order[begin : begin + size]
            yield index, dict(self.encode([texts[i] for i in index], padding=True, return_tensors="np"))

    def embed(self, texts: list[str], size: int, forward: Callable[[Batch], Vectors]) -> Vectors:
        out = np.empty((len(texts), WIDTH), np.float32)
        for index, batch in self.batches(texts, size):
            out[index] = mean(forward(batch), batch["attention_mask"])
        return out


def mean(hidden: Vectors, mask: npt.NDArray[np.int64]) -> Vectors:
    """Mean of the tokens under the mask, at unit length."""
    weights = mask[..., None].astype(np.float32)
    pooled = (hidden * weights).sum(1) / weights.sum(1)
    return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)


def torch_eager(upstream: SentenceTransformer) -> Embed:
    """The network of transformers, 32 texts at a time."""
    tokenised, network = Tokenised(upstream), upstream[0].model

    def forward(batch: Batch) -> Vectors:
        with torch.inference_mode():
            return network(**{k: torch.from_numpy(v) for k, v in batch.items()}).last_hidden_state.numpy()

    return lambda texts: tokenised.embed(texts, 32, forward)


class _Hidden(torch.nn.Module):
    """The network with positional inputs and one output, as the exporter wants it."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.network(**dict(zip(INPUTS, inputs, strict=True))).last_hidden_state


def onnxruntime_engines(upstream: SentenceTransformer, threads: int) -> dict[str, Embed]:
    """ONNX Runtime in fp32 and with dynamic int8 quantisation (weights per channel)."""
    import onnxruntime as ort
    from onnxruntime.quantization import QuantType, quantize_dynamic

    tokenised, folder = Tokenised(upstream), Path(tempfile.mkdtemp())
    example = tokenised.encode(["one", "two words"], padding=True, return_tensors="pt")
    full, small = folder / "fp32.onnx", folder / "int8.onnx"
    torch.onnx.export(
        _Hidden(upstream[0].model), tuple(example[k] for k in INPUTS), str(full), input_names=list(INPUTS),
        output_names=["h"], dynamic_axes={k: {0: "b", 1: "s"} for k in (*INPUTS, "h")}, dynamo=False, opset_version=18,
    )  # fmt: skip
    quantize_dynamic(full, small, weight_type=QuantType.QInt8, per_channel=True, extra_options={"DefaultTensorType": 1})
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads

    def engine(path: Path) -> Embed:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

        def forward(batch: Batch) -> Vectors:
            return session.run(None, {k: batch[k].astype(np.int64) for k in INPUTS})[0]

        return lambda texts: tokenised.embed(texts, 32, forward)

    return {"ONNX Runtime fp32": engine(full), "ONNX Runtime int8, dynamic": engine(small)}


def openvino_engines(upstream: SentenceTransformer, threads: int, calibration: list[str]) -> dict[str, Embed]:
    """OpenVINO in fp32 and int8 (NNCF post-training quantisation), one stream a thread, batches in flight."""
    import nncf
    import openvino as ov

    nncf.set_log_level(logging.ERROR)
    tokenised, core = Tokenised(upstream), ov.Core()
    example = dict(tokenised.encode(["one", "two words"], padding=True, return_tensors="pt"))
    full = ov.convert_model(upstream[0].model, example_input=example)
    samples = [batch for _, batch in tokenised.batches(calibration, 8)]
    small = nncf.quantize(full, nncf.Dataset(samples), model_type=nncf.ModelType.TRANSFORMER)
    options = {
        "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
    }  # fmt: skip

    def engine(graph: Any) -> Embed:
        compiled = core.compile_model(graph, "CPU", options)
        names = [i.any_name for i in compiled.inputs]

        def embed(texts: list[str]) -> Vectors:
            out = np.empty((len(texts), WIDTH), np.float32)
            queue = ov.AsyncInferQueue(compiled, threads)

            def done(request: Any, data: Any) -> None:
                index, mask = data
                out[index] = mean(request.get_output_tensor(0).data, mask)

            queue.set_callback(done)
            for index, batch in tokenised.batches(texts, 16):
                queue.start_async({k: batch[k] for k in names}, (index, batch["attention_mask"]))
            queue.wait_all()
            return out

        return embed

    return {"OpenVINO fp32": engine(full), "OpenVINO int8, NNCF PTQ": engine(small)}
