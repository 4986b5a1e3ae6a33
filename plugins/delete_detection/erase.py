"""erase_detector(): make a detector in memory forget, in one call."""

import copy
import uuid
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from delete_images import run_config as runs
from delete_images.memory.erase import preserve_process_state
from delete_images.memory.model import check_trainable, copy_model, forget_names_in_config, names_in_config
from delete_tasks.errors import RequestError
from delete_tasks.fileio.workdir import scratch
from delete_tasks.request.classes import resolve_classes
from delete_tasks.runner.forget_check import not_forgotten
from delete_tasks.task import neutral_names

from .data import DetectionData, Pictures
from .measure import fate
from .model import Detector
from .parts import Parts, parts_of
from .task import METHOD, TASK


@dataclass(frozen=True)
class ErasedDetector:
    """Result of :func:`erase_detector`.

    Attributes:
        model: Erased model, of the caller's own class.
        figures: ``steps``, ``seconds``; ``boxes``, counts of :func:`delete_detection.measure.fate` on the images; ``finished``,
            the layers whose class weights were removed; ``forget_check``, see
            :func:`delete_tasks.runner.forget_check.check_forgotten`; ``done``, see :func:`delete_tasks.runner.done.statement`.
    """

    model: nn.Module
    figures: dict[str, Any]


def erase_detector(
    model: nn.Module,
    images: Sequence[Tensor],
    classes: Sequence[str | int] | str | int,
    *,
    class_names: Sequence[str] | None = None,
    size: int | Sequence[int] = 416,
    parts: Parts | None = None,
    steps: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    work_dir: str | Path | None = None,
    resume: bool = False,
    verbose: bool = False,
    **options: Any,
) -> ErasedDetector:
    """Make a detector forget classes (DELETE, arXiv 2503.23751, at every anchor, proposal or query).

    The model passed in does not change. Only images that show the classes are needed, and no annotations.

    Args:
        model: Detector of torchvision (RetinaNet, FCOS, SSD, Faster and Mask R-CNN), of transformers (DETR and its relatives,
            YOLOS, Mask2Former), a YOLOX, ``YOLO(...).model`` of Ultralytics, or another that ``parts`` describes.
        images: Images that show the classes: float tensors ``(3, H, W)``, as the network takes them, of any sizes.
        classes: Names of the classes, or ids, as 3 or '#3': indices of the class logits, so torchvision's labels.
        class_names: Names of all class logits; by default those that a model of transformers or Ultralytics has, or class_<id>.
        size: Height and width of the network's input, or one side; random views of the images are a little smaller.
        parts: Description of another detector.
        steps, lr, batch_size: Length, AdamW's rate and batch size: 300, 1e-4, 8.
        seed: Random seed; it determines the result.
        work_dir: Folder for the run's states, to ``resume`` from; its files name the classes. By default none are kept.
        verbose: Log the run.
        options: Options of :class:`delete_detection.method.DetectorDELETE` and of ``unlearn``, as ``into`` and ``keep_row``.

    Raises:
        RequestError: Unknown classes, images that are no tensors ``(3, H, W)``, a run that forgot nothing.
        UnsupportedModelError: A detector of an unknown kind.
    """
    shapes = [tuple(getattr(image, "shape", ())) for image in images]
    wrong = next((shape for shape in shapes if len(shape) != 3 or shape[0] != 3), None)
    if not shapes or wrong is not None:
        raise RequestError(f"images must be tensors (3, H, W); got {'none' if not shapes else f'one of shape {wrong}'}")
    check_trainable(model)
    described = parts or parts_of(model)
    student = Detector(copy_model(model), described)
    own = _own_names(model, student.num_classes)
    names = list(class_names or own or names_in_config(model) or [f"class_{i}" for i in range(student.num_classes)])
    names += ["no object"] * (student.num_classes - len(names) if described.background == len(names) else 0)
    if len(names) != student.num_classes:
        raise RequestError(
            f"class_names holds {len(names)} names and the model has {student.num_classes} logits at each place"
            f"{'' if described.background is None else f' (that of the background is {described.background})'}; name all"
        )
    ids = resolve_classes(classes, names)
    if described.background in ids:
        raise RequestError(f"class {described.background} is the background, which cannot be forgotten")
    sides = [size, size] if isinstance(size, int) else list(size)
    pictures = Pictures(list(images), [f"{number:06d}" for number in range(len(images))])
    data, original = DetectionData(pictures, None, names, sides), Detector(copy_model(model), described)
    chosen = {"steps": steps, "lr": lr, "batch_size": batch_size, **options}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    unlearn = runs.unlearn_options(ids, METHOD, {**runs.method_class(METHOD).defaults(TASK.recipes), **chosen})
    name = f"detector_{uuid.uuid4().hex}"
    with preserve_process_state(), ExitStack() as stack:
        folder = stack.enter_context(scratch()) if work_dir is None else str(work_dir)
        stack.callback(runs.release_runner, name)
        runner = runs.build_runner(
            student, data, original, folder, unlearn, seed=seed, name=name, resume=resume, states=work_dir is not None,
            device=next(student.parameters()).device, log_level="INFO" if verbose else "WARNING",
        )  # fmt: skip
        runner.train()
        if runner.outcome.withheld is not None:
            raise RequestError(f"nothing is returned: {runner.outcome.withheld}")
        left = not_forgotten(runner.outcome.forget_check, runner.recipe.steps, runner.recipe.optimizer)
        if left is not None:
            warnings.warn(f"NOT FORGOTTEN: {left}", UserWarning, stacklevel=2)
        before, after = (pictures.detect(each, sides) for each in (original, student))
    erased = copy.deepcopy(model)
    erased.load_state_dict(student.state_dict())
    forget_names_in_config(erased, ids)
    if own is not None:
        erased.names = dict(enumerate(neutral_names(own, ids)))  # type: ignore[assignment]
    figures = {name: getattr(runner.outcome, name) for name in ("finished", "forget_check", "done", "seconds")}
    return ErasedDetector(erased, {"steps": runner.iter, "boxes": fate(before, after, ids), **figures})


def _own_names(model: nn.Module, count: int) -> list[str] | None:
    """Return the class names that a network of Ultralytics holds, by id in ``names``; None if there are none."""
    names = getattr(model, "names", None)
    return [*map(str, names.values())] if isinstance(names, Mapping) and [*names] == [*range(count)] else None
