"""Embedders of ONNX files: the layer that makes the embedding becomes one of PyTorch, what is before it runs in ONNX Runtime.

So the projection folds into that layer, as for other embedders, and a file that is written again holds the changed layer and no
trace of the former one.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delete_tasks.errors import RequestError, UnsupportedModelError, first_line, require
from delete_tasks.fileio.atomic import save_bytes
from delete_tasks.fileio.inputs import read_bytes
from delete_tasks.model.projection import linear_map

NAME = "embedder.onnx"  # in the folder of an erased model
LINEAR = ("Gemm", "MatMul", "Conv")
LENGTH = ("LpNormalization", "ReduceL2", "ReduceSumSquare")  # after the layer, they scale embeddings to length 1
TOLERANCE = 1e-4  # of the largest number of an embedding
FEATURES, EMBEDDING = "delete_tasks_features", "embedding"


class Trunk(nn.Module):
    """All of an ONNX graph before the embedding's layer: images ``(N, 3, H, W)`` to features ``(N, K)``, without a gradient. The
    graph is a buffer, so that it is saved, copied and digested as weights are."""

    def __init__(self, graph_bytes: int) -> None:
        super().__init__()
        self.register_buffer("graph", torch.zeros(graph_bytes, dtype=torch.uint8))
        self._session: tuple[Tensor, Any] | None = None

    def forward(self, images: Tensor) -> Tensor:
        graph: Any = self.graph
        if self._session is None or self._session[0] is not graph:
            self._session = graph, session_of(graph.cpu().numpy().tobytes())
        session = self._session[1]
        features = session.run(None, {session.get_inputs()[0].name: images.detach().float().cpu().numpy()})[0]
        return torch.from_numpy(features).flatten(1).to(images.device)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Trunk":
        copied = Trunk(len(self.graph))  # type: ignore[arg-type]
        copied.graph = self.graph  # which never changes
        return copied


class OnnxEmbedder(nn.Module):
    """An embedder of an ONNX file. Arguments are of a model.json: sizes of graph, features and embedding; whether a batch norm
    follows the layer, and whether embeddings are scaled to length 1 (``unit``)."""

    def __init__(
        self, embedding_size: int, graph_bytes: int, features: int, norm: bool = False, unit: bool = False
    ) -> None:
        super().__init__()
        self.trunk, self.layer, self.unit = Trunk(graph_bytes), nn.Linear(features, embedding_size), unit
        self.norm = nn.BatchNorm1d(embedding_size) if norm else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        embeddings = self.norm(self.layer(self.trunk(images)))
        return F.normalize(embeddings) if self.unit else embeddings


def session_of(content: bytes) -> Any:
    """Make a session of ONNX Runtime on a CPU."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # which writes a file on import, and sends
    runtime: Any = require("onnxruntime", "export")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def read_embedder(path: str) -> tuple[OnnxEmbedder, dict[str, Any], tuple[int, int]]:
    """Read an embedder, its arguments for a model.json and its input's size; refuse a file whose embedding is not made by a
    linear layer, perhaps with a batch norm and a scaling to length 1 behind it."""
    onnx: Any = require("onnx", "export")
    content = read_bytes(path)
    try:
        model = onnx.load_from_string(content)
        size = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim][2:]
        whole, (embedder, arguments) = session_of(content), _split(onnx, model)
        images = torch.randn(4, 3, *(size if all(size) else (112, 112)), generator=torch.Generator().manual_seed(0))
        expected = [whole.run(None, {whole.get_inputs()[0].name: one[None].numpy()})[0] for one in images]
        with torch.no_grad():
            off = torch.from_numpy(np.concatenate(expected)) - torch.cat([embedder(one[None]) for one in images])
        fits = float(off.abs().max()) <= TOLERANCE * float(np.abs(expected).max())
    except (RequestError, UnsupportedModelError):
        raise
    except Exception as error:  # protobuf and ONNX Runtime raise many kinds
        raise UnsupportedModelError(f"'{path}' is no ONNX file of an embedder: {first_line(error)}") from error
    if not fits:
        raise UnsupportedModelError(
            f"the embedding of '{path}' is not made by a linear layer with at most a batch norm and a scaling to length 1 behind "
            f"it (largest difference {float(off.abs().max()):.2g}), so no projection can be folded into it"
        )
    return embedder, arguments, tuple(images.shape[2:])  # type: ignore[return-value]


def _split(onnx: Any, model: Any) -> tuple[OnnxEmbedder, dict[str, Any]]:
    """Split a graph at the data input of its last linear layer."""
    nodes, held = list(model.graph.node), {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    places = [i for i, node in enumerate(nodes) if node.op_type in LINEAR and node.input[1] in held]
    if not places:
        raise UnsupportedModelError("its graph has no linear layer with weights")
    layer, after = nodes[places[-1]], nodes[places[-1] + 1 :]
    attributes = {one.name: onnx.helper.get_attribute_value(one) for one in layer.attribute}
    weight = held[layer.input[1]] * attributes.get("alpha", 1.0)
    weight = weight.reshape(len(weight), -1) if layer.op_type == "Conv" or attributes.get("transB") else weight.T
    added = [held[name] for node in after if node.op_type == "Add" for name in node.input if name in held]
    bias = (
        held[layer.input[2]] * attributes.get("beta", 1.0)
        if len(layer.input) > 2
        else next(iter(added), np.zeros(len(weight)))
    )
    norm = next((node for node in after if node.op_type == "BatchNormalization"), None)
    trunk = _before(onnx, model, layer.input[0])
    arguments = {"graph_bytes": len(trunk), "features": weight.shape[1], "norm": norm is not None,
                 "unit": any(node.op_type in LENGTH for node in after)}  # fmt: skip
    embedder = OnnxEmbedder(len(weight), **arguments).eval()  # type: ignore[arg-type]
    state = {"layer.weight": weight, "layer.bias": np.broadcast_to(bias.reshape(-1), len(weight))}
    if norm is not None:
        embedder.norm.eps = next((one.f for one in norm.attribute if one.name == "epsilon"), 1e-5)  # type: ignore[assignment]
        parts = ("weight", "bias", "running_mean", "running_var")
        state |= {f"norm.{part}": held[name] for part, name in zip(parts, norm.input[1:], strict=True)}
        state["norm.num_batches_tracked"] = np.zeros((), np.int64)
    tensors = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in state.items()}
    embedder.load_state_dict({**tensors, "trunk.graph": torch.frombuffer(bytearray(trunk), dtype=torch.uint8)})
    return embedder, arguments


def _before(onnx: Any, model: Any, output: str) -> bytes:
    """Cut out what computes a tensor of a graph, without anything else."""
    wanted, kept = {output}, []
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            kept.insert(0, node)
            wanted |= set(node.input)
    inputs = [
        one
        for one in model.graph.input
        if one.name in wanted and one.name not in {i.name for i in model.graph.initializer}
    ]
    held = [one for one in model.graph.initializer if one.name in wanted]
    features = onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph(kept, "trunk", inputs, [features], held)
    return onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version
    ).SerializeToString()


def write_embedder(embedder: OnnxEmbedder, folder: Path) -> None:
    """Write an embedder as one ONNX file again: the graph before the layer, and one Gemm for layer and batch norm."""
    onnx: Any = require("onnx", "export")
    graph: Any = embedder.trunk.graph
    model = onnx.load_from_string(graph.cpu().numpy().tobytes())
    weight, shift = linear_map(embedder.layer, embedder.norm if isinstance(embedder.norm, nn.BatchNorm1d) else None)
    values = {"delete_tasks_weight": weight, "delete_tasks_bias": shift}
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(value.detach().float().cpu().numpy(), name) for name, value in values.items()
    )
    raw = "delete_tasks_raw" if embedder.unit else EMBEDDING
    make = onnx.helper.make_node
    model.graph.node.append(make("Flatten", [model.graph.output[0].name], [FEATURES]))
    model.graph.node.append(make("Gemm", [FEATURES, *values], [raw], transB=1))
    if embedder.unit:
        model.graph.node.append(make("LpNormalization", [raw], [EMBEDDING], axis=1, p=2))
    del model.graph.output[:]
    shape = ["batch", len(weight)]
    model.graph.output.append(onnx.helper.make_tensor_value_info(EMBEDDING, onnx.TensorProto.FLOAT, shape))
    save_bytes(model.SerializeToString(), folder / NAME)
