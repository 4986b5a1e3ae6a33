"""Export of a model by torch.onnx, its comparison by ONNX Runtime, and the receipt."""

import copy
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..display.terminal import say, short
from ..errors import RequestError, UnsupportedModelError, first_line, require
from ..evaluation.reader import OpenedModel
from ..fileio.atomic import save_bytes, save_json
from ..fileio.digests import describe_model
from ..fileio.inputs import file_sha256
from ..fileio.processes import raise_lost
from ..fileio.sampling import evenly_spread
from ..request.classes import resolve_classes
from ..task import Task, load_task, open_models
from .record.files import RECORD
from .record.verify import read_verified, reopen

FORMAT, INPUT, RANDOM = "delete-tasks export 1", "input", "random numbers"
PLACES = "delete_tasks.places"  # in a file without all outputs: place of each class among them, by that in the model
TOLERANCE = 1e-4  # of the largest output, since sums are taken in another order
MOST = 16  # samples of each split that are compared


def open_source(options: Mapping[str, Any]) -> tuple[Task, OpenedModel, dict[str, Any], str, list[int], dict[str, Any]]:
    """Open what the command's options name: task and model; samples by split, or why there are none; places of the forgotten
    classes; digests. Refuse a record that does not hold or has no model, and models of no task."""
    path, folder, record, opened = options["model"], Path(options["model"]), None, None
    why, row, data = "no samples were given", "original", {"forget": options["data"]} if options["data"] else {}
    if (folder / RECORD).is_file():
        record, erased = read_verified(folder)
        if erased is None:
            raise RequestError(f"the run in '{folder}' wrote no model to export")
        path = str(erased)
    if record is not None and not data:
        try:
            (task, opened), row = reopen(record, folder), "erased"
            why = "; ".join(dict.fromkeys(opened.not_measured.values()))
        except Exception as error:  # samples that are gone or changed, code that no record may run
            raise_lost(error)
            why = first_line(error)
    if opened is None:  # only inputs are read of samples, whatever class is named
        task, opened = open_models({row: path}, data, {**options, "classes": ["#0"]}, "an export")
    ids = resolve_classes(options["classes"], opened.names) if options["classes"] else []
    if record is not None and not ids and load_task(record["task"]).names_are_forgotten:
        ids = [one["id"] for one in record["forgotten"]["classes"]]
    digests = {"tensors_sha256": describe_model(path, Path())["tensors_sha256"]}
    digests["record_sha256"] = None if record is None else file_sha256(folder / RECORD)
    opened.to("cpu")
    return task, opened.models[row], opened.samples, why, ids if task.exports == "logits" else [], digests


class Served(nn.Module):
    """A task's output of a model, at the places ``kept`` (None: all)."""

    def __init__(self, task: Task, model: nn.Module, kept: Sequence[int] | None) -> None:
        super().__init__()
        self.network = task.published(model)  # a wrapper around it may name its tensors otherwise,
        self.task, self.model, self.kept = task, (model,), kept  # so in a tuple it is no part of this module

    def forward(self, inputs: Tensor) -> Tensor:
        output = self.task.exported(self.model[0], inputs)
        return output if self.kept is None else output.index_select(1, torch.tensor(self.kept))  # one Gather


def make_graph(served: Served, inputs: Tensor) -> Any:
    """Export a model as an ``onnx.ModelProto``, with nothing that the output does not depend on."""
    names: dict[str, Any] = {"input_names": [INPUT], "output_names": [served.task.exports], "verbose": False}
    example = torch.cat([inputs, inputs])[:2]  # one would fix the batch's size
    shapes = ({0: torch.export.Dim("batch")},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's, of its own code
        model: Any = torch.onnx.export(served, (example,), dynamo=True, dynamic_shapes=shapes, **names).model_proto  # type: ignore
    _strip(model)
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in used]:  # e.g. a face model's head
        model.graph.initializer.remove(tensor)
    if served.kept is not None:
        model.metadata_props.add(key=PLACES, value=json.dumps({old: new for new, old in enumerate(served.kept)}))
    return model


def _strip(message: Any) -> None:
    """Delete what the exporter notes of modules and source files in a message of protobuf."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                _strip(part)


def compare(served: Served, ids: Sequence[int], batches: Iterable[tuple[str, Tensor]], session: Any) -> dict[str, Any]:
    """Compare a file with its model: largest difference and output; the range and wins of its outputs ``ids`` in the model."""
    read, rows, size = Counter[str](), [], None
    for split, inputs in batches:
        size = size or inputs.shape[1:]
        if inputs.shape[1:] != size:  # a file takes inputs of one size
            continue
        with torch.no_grad():
            whole = served.task.exported(served.model[0], inputs)
        expected = whole if served.kept is None else whole[:, served.kept]
        given = session.get_inputs()[0]
        parts = inputs.numpy()[:, None] if given.shape[0] == 1 else [inputs.numpy()]  # a file can fix the batch
        off = expected - torch.cat([torch.from_numpy(session.run(None, {given.name: part})[0]) for part in parts])
        own, best = whole[:, ids] if ids else torch.zeros(1), torch.isin(whole.argmax(1), torch.tensor(ids))
        row = off.abs().max(), expected.abs().max(), own.max(), -own.min(), best.sum(), best.numel()
        rows.append([float(value) for value in row])
        read[split] += len(inputs)
    table = torch.tensor(rows, dtype=torch.float64)
    difference, largest, high, low, *_ = table.max(0).values.tolist()
    predicted, places = map(int, table[:, 4:].sum(0))
    forgotten = {"from": -low, "to": high, "largest_at": predicted, "places": places} if ids else None
    return {"difference": difference, "of": largest, "samples": dict(read), "forgotten": forgotten}


def export(options: Mapping[str, Any], out: Path, receipt: Path) -> None:
    """Export the model that the command's ``options`` name, and write the receipt. Refuse a model that cannot be exported, a file
    that gives other outputs, and to leave out classes that are not known or still predicted; nothing is written then."""
    task, model, samples, why, ids, digests = open_source(options)
    few = {split: each.subset(evenly_spread(len(each), MOST)) for split, each in samples.items()} or {RANDOM: None}
    batches = [(split, inputs) for split, each in few.items() for inputs in task.export_inputs(model, each)]
    (module, layer), kept = copy.deepcopy((model.module, model.last_layer)), None
    if options["drop_output"]:
        if not ids:
            raise RequestError(f"--drop-output: no forgotten class of the {task.exports} is known; give --classes")
        for parameter in layer.parameters():
            parameter.data[ids] = 0  # without an output, a class's weights would only lie in the file
        kept = [i for i in range(task.exported(module, batches[0][1][:1]).shape[1]) if i not in ids]
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # which writes a file on import, and sends
    runtime: Any = require("onnxruntime", "export")
    try:
        graph = task.exported_file(module) or make_graph(Served(task, module, kept).eval(), batches[0][1])
        content = graph.SerializeToString()
        session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
        found = compare(Served(task, model.module, kept), ids, batches, session)
    except Exception as error:  # a forward pass that cannot be traced, an operation that ONNX lacks, more than 2 GiB
        raise_lost(error)
        raise UnsupportedModelError(f"the model cannot be exported: {first_line(error.__cause__ or error)}") from error
    forgotten, difference = found["forgotten"], f"largest difference {found['difference']:.2g}, of {found['of']:.3g}"
    at = forgotten and f"the largest at {forgotten['largest_at']:,} of {forgotten['places']:,} places"
    if kept is not None and forgotten["largest_at"]:
        raise RequestError(f"--drop-output would only hide what the model still predicts ({at}); erase it first")
    if not found["difference"] <= TOLERANCE * found["of"]:  # nan is not
        raise RequestError(f"the file gives other outputs than the model ({difference}), so it is not written")
    save_bytes(content, out)
    opset, sha256 = next(each.version for each in graph.opset_import if not each.domain), file_sha256(out)
    values = {each.name: each.type.tensor_type.shape.dim for each in (*graph.graph.input, *graph.graph.output)}
    shapes = {name: [each.dim_param or each.dim_value for each in size] for name, size in values.items()}
    file = {"sha256": sha256, "opset": opset, "shapes": shapes, "kept": kept}
    save_json({"format": FORMAT, "model": digests, "file": file, "compared": found}, receipt)
    say(" -> ".join(f"{name} ({', '.join(map(str, shape))})" for name, shape in shapes.items()) + f", opset {opset}")
    if kept is not None:
        say(f"Without class {', '.join(map(str, ids))}; classes of the outputs: {', '.join(map(str, kept))}")
    elif forgotten:
        said = f"Output of class {', '.join(map(str, ids))}, forgotten: "
        say(f"{said}{forgotten['from']:.4g} to {forgotten['to']:.4g}, {at}")
    on = ", ".join(f"{count} of {split}" for split, count in found["samples"].items())
    say(f"Compared with the model on {on}{f' ({why})' if RANDOM in few else ''}: {difference}\nSHA-256 {sha256}")
    say(f"Written: {short(out)}, and the receipt {receipt.name}")
