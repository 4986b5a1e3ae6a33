"""Embedder in an ONNX file: ONNX Runtime computes what its last linear map reads, and that map is a layer of PyTorch."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from delete_tasks.errors import RequestError, first_line, require

LINEAR = ("Conv", "Gemm", "MatMul")
# With constants, each is a part of the last linear map.
AFFINE = {"Add", "BatchNormalization", "Div", "Dropout", "Flatten", "Identity", "Mul", "Reshape", "Squeeze", "Sub"}
PROBE = 1024.0  # length of the vectors that the last map is asked for: its shift costs them digits
ROWS = 256  # of them at once
TOLERANCE = 1e-4  # of the embeddings' largest number
OUTPUT = "delete_tasks.output"  # in the metadata of the part that ONNX Runtime computes: name of the file's output


class OnnxEmbedder(nn.Module):
    """Faces ``(N, 3, H, W)`` to embeddings ``(N, D)``, without a gradient for what comes before the last linear map. The state
    dict holds the file up to that map as bytes, ``graph``, and its weights and bias. Arguments are those of a model.json: number
    of bytes and of features, D, and whether embeddings are scaled to length 1."""

    graph: Tensor

    def __init__(self, graph_bytes: int, features: int, embedding_size: int, normalize: bool = False) -> None:
        super().__init__()
        self.arguments = {"graph_bytes": graph_bytes, "features": features, "normalize": normalize}
        self.register_buffer("graph", torch.zeros(graph_bytes, dtype=torch.uint8))
        self.linear = nn.Linear(features, embedding_size)
        self._session: Any = None

    def forward(self, faces: Tensor) -> Tensor:
        features = run(self._open(), faces.detach().float().cpu().numpy())
        embeddings = self.linear(torch.from_numpy(features).flatten(1).to(faces))
        return nn.functional.normalize(embeddings) if self.arguments["normalize"] else embeddings

    def content(self) -> bytes:
        """Return the part of the file that ONNX Runtime computes."""
        return self.graph.cpu().numpy().tobytes()

    def _open(self) -> Any:
        state = self.graph.data_ptr(), self.graph._version
        if self._session is None or self._session[0] != state:
            self._session = state, open_session(self.content())
        return self._session[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}  # it can be neither copied nor pickled

    def whole(self) -> Any:
        """Compose the file, an ``onnx.ModelProto``, with the last map as it is now; names of input and output are the file's."""
        onnx: Any = require("onnx", "export")
        model = onnx.load_from_string(self.content())
        graph, helper = model.graph, onnx.helper
        output = next(each.value for each in model.metadata_props if each.key == OUTPUT)
        names = [graph.output[0].name, *(f"{OUTPUT}.{part}" for part in ("flat", "weight", "bias", "linear"))]
        last = names[4] if self.arguments["normalize"] else output
        graph.node.append(helper.make_node("Flatten", names[:1], names[1:2]))
        graph.node.append(helper.make_node("Gemm", names[1:4], [last], transB=1))
        if last != output:
            graph.node.append(helper.make_node("LpNormalization", [last], [output], axis=1, p=2))
        tensors = (self.linear.weight, self.linear.bias)
        for name, tensor in zip(names[2:4], tensors, strict=True):
            graph.initializer.append(onnx.numpy_helper.from_array(tensor.detach().cpu().numpy(), name))
        del graph.output[:], model.metadata_props[:]
        first = graph.input[0].type.tensor_type.shape.dim[0]
        shape = [first.dim_param or first.dim_value or None, len(tensors[1])]
        graph.output.append(helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, shape))
        onnx.checker.check_model(model)
        return model


def open_session(content: bytes) -> Any:
    """Open a model in ONNX Runtime, on the CPU."""
    runtime: Any = require("onnxruntime", "export")
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run(session: Any, values: np.ndarray, **more: np.ndarray) -> np.ndarray:
    """Run a model on ``(N, ...)``, one at a time if the file fixes the batch."""
    first = session.get_inputs()[0]
    if first.shape and first.shape[0] == 1 and len(values) != 1:
        return np.concatenate([run(session, values[i : i + 1], **more) for i in range(len(values))])
    return session.run(None, {first.name: np.ascontiguousarray(values), **more})[0]


def read_onnx(path: str) -> tuple[OnnxEmbedder, tuple[int, int]]:
    """Read an embedder and its input's size; refuse one that does not end in a linear map, scaled to length 1 at most."""
    onnx: Any = require("onnx", "export")
    try:
        model = onnx.load_from_string(Path(path).read_bytes())
        onnx.checker.check_model(model)
        whole = open_session(model.SerializeToString())
    except Exception as error:  # of protobuf, the checker, ONNX Runtime: files with weights beside them, too
        raise RequestError(f"'{path}' cannot be read as an ONNX file: {first_line(error)}") from error
    inputs, outputs = whole.get_inputs(), whole.get_outputs()
    shape = inputs[0].shape
    if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type != "tensor(float)" or len(shape) != 4 or shape[1] != 3:
        said = ", ".join(f"{each.name} {each.type} {each.shape}" for each in (*inputs, *outputs))
        raise RequestError(f"'{path}' has {said}; expected one input of float32 (N, 3, H, W), and one output")
    size = [side if isinstance(side, int) else 112 for side in shape[2:]]
    faces = np.random.default_rng(0).normal(size=(4, 3, *size)).astype(np.float32)
    try:
        expected, embedder = run(whole, faces), _split(model, inputs[0].name, outputs[0].name, faces, onnx)
        with torch.no_grad():
            found = embedder.eval()(torch.from_numpy(faces)).numpy()
        fits = expected.shape == found.shape and np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()
    except (StopIteration, ValueError, RuntimeError) as error:  # no linear map, or what follows reads more than it
        raise RequestError(f"'{path}': {ENDING} ({first_line(error) or 'there is no such map'})") from error
    if not fits:
        raise RequestError(f"'{path}': {ENDING}")
    return embedder, (size[0], size[1])


ENDING = "an embedder must end in a linear map with constants, and scale embeddings to length 1 after it at most"


def _split(model: Any, source: str, output: str, faces: np.ndarray, onnx: Any) -> OnnxEmbedder:
    """Split a model into what its last linear map reads and that map, with all that is affine after it."""
    makers = {name: node for node in model.graph.node for name in node.output}
    constant = {each.name for each in model.graph.initializer}
    constant |= {name for name, node in makers.items() if node.op_type == "Constant"}

    def values(node: Any) -> list[str]:
        return [name for name in node.input if name and name not in constant]

    path = [makers[output]]  # from the output back to the last linear map
    while path[-1].op_type not in LINEAR or len(values(path[-1])) != 1:
        path.append(makers[next(name for name in values(path[-1]) if name in makers)])
    features, end = values(path[-1])[0], path[-1].output[0]
    for node in reversed(path[:-1]):
        shapes = node.op_type == "Reshape"  # its shape may be computed
        if node.op_type not in AFFINE or (len(values(node)) != 1 and not shapes):
            break
        end = node.output[0]
    named = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in {features, end}]
    model.graph.value_info.extend(named)  # the last of a name counts
    parts = onnx.utils.Extractor(model)
    body, last = parts.extract_model([source], [features]), parts.extract_model([features, source], [end])
    shaped_by_source = any(source in node.input for node in last.graph.node)
    if not shaped_by_source:
        last.graph.input.pop()
    body.metadata_props.add(key=OUTPUT, value=output)
    read, session = run(open_session(body.SerializeToString()), faces), open_session(last.SerializeToString())
    count = int(np.prod(read.shape[1:]))

    def apply(rows: np.ndarray) -> np.ndarray:
        shaped = rows.reshape(-1, *read.shape[1:]).astype(np.float32)
        more = {source: np.zeros((len(shaped), *faces.shape[1:]), np.float32)} if shaped_by_source else {}
        return run(session, shaped, **more).reshape(len(rows), -1)

    shift = apply(np.zeros((1, count)))
    weight = np.zeros((shift.shape[1], count), np.float32)
    for start in range(0, count, ROWS):
        rows = np.eye(min(ROWS, count - start), count, start)
        weight[:, start : start + ROWS] = ((apply(PROBE * rows) - shift) / PROBE).T
    content = body.SerializeToString()
    embedder = OnnxEmbedder(len(content), count, len(weight), normalize=end != output)
    graph = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    linear = {"linear.weight": torch.from_numpy(weight), "linear.bias": torch.from_numpy(shift[0])}
    embedder.load_state_dict({"graph": graph, **linear})
    return embedder
