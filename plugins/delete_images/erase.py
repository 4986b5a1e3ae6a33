"""erase(): make a classifier forget, in one call."""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from delete_tasks.checkpoint import save_file
from delete_tasks.errors import RequestError, require
from delete_tasks.losses import masked_mass
from delete_tasks.masking import class_mask, resolve_classes

require("mmengine", "images")

from . import register  # noqa: E402, F401
from .classifier import ImageClassifier, predict_batch  # noqa: E402
from .data import NO_LABEL  # noqa: E402
from .runs import (  # noqa: E402
    RATES,
    build_runner,
    check_retain,
    forget_runner,
    method_class,
    rate_for,
    same_randomness_after,
    unlearn_options,
)
from .user_data import Samples, UserData, check_labels, known_class_names, read_samples  # noqa: E402
from .user_model import check_model, copy_model, count_classes, device_of, tensors  # noqa: E402

MEASURED = 1000  # images of the forget set on which before and after are measured, at most
READ_BATCH = 250
HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Erased:
    """What :func:`erase` returns.

    Attributes:
        model: The erased model: the caller's own class, on the same device, with the same dtypes, mode and flags.
        figures: ``seconds``; ``steps`` done; ``classes``; ``forget_set`` (samples, and how many were measured);
            ``retain_set`` (samples, or None); ``masked_mass`` (mean probability of the forgotten classes) and
            ``predicted_as_forgotten`` (percent of images), each before and after, on the forget set; ``unlearn``, the recipe.
    """

    model: nn.Module
    figures: dict[str, Any] = field(repr=False)


def erase(
    model: nn.Module,
    forget_images: Any,
    classes: Sequence[str | int] | str | int,
    *,
    class_names: Sequence[str] | None = None,
    retain: Any = None,
    method: str = "DELETE",
    steps: int | None = None,
    lr: float | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    work_dir: str | Path | None = None,
    resume: bool = False,
    num_workers: int = 0,
    verbose: bool = False,
    **options: Any,
) -> Erased:
    """Make a classifier forget classes (DELETE, CVPR 2025, arXiv 2503.23751, by default).

    The model passed in stays as it is. It needs no other images than those to be forgotten, and no labels. Half-precision
    models are trained as a float32 copy. Parameters that require no gradient do not change.

    Args:
        model: Any module that maps a batch to logits ``(N, C)``, or to a tuple or dict that holds them.
        forget_images: What is to be forgotten, all of it: a Dataset, DataLoader or tensor. Samples are ``(image, label)`` or
            images; an image is whatever tensor the model takes.
        classes: Names or ids of the classes.
        class_names: Of all C logits, in order. Taken from ``forget_images.classes`` (or ``class_names``) where they are
            there; not needed with ids.
        retain: Clean samples of other classes, if there are any: one joins each forget image, with nothing masked, so that
            the model keeps what the original says of it.
        method: 'DELETE', 'HeadOnly', 'RandomLabel' or 'NegativeGradient'.
        steps, lr, batch_size: Of the run; by default 100 steps of 128 (or the loader's own batch size) with AdamW at the
            method's rate (2e-4 for DELETE, less for more than 300,000 parameters, see :func:`delete_images.runs.rate_for`).
        seed: The result is a function of it.
        device: Where to train; the model's own device by default.
        work_dir: Keep the run's state here; a temporary folder by default. What is in it names the classes.
        resume: Go on from the last state in ``work_dir``.
        num_workers: Of the data loader.
        verbose: Log the run.
        options: Of the method, as in ``unlearn = dict(...)``: sharpen, masking, stop, norm_eval, ...

    Raises:
        RequestError: Unknown classes, data that cannot be read, labels that are not those to be forgotten, ...
        UnsupportedModelError: No logits ``(N, C)``, nothing that trains, a model that cannot be copied or is wrapped.

    Example:
        ``erased = erase(model, deer_images, classes=[4]).model``
    """
    with same_randomness_after():
        return _Erasure(
            model=model,
            forget=read_samples(forget_images, "forget_images"),
            retain=None if retain is None else read_samples(retain, "retain"),
            class_names=class_names,
            classes=classes,
            method=method,
            seed=seed,
            device=device,
            masking=options.get("masking", "all"),
        ).run(
            {"steps": steps, "lr": lr, "batch_size": batch_size, **options},
            {"resume": resume, "num_workers": num_workers, "log_level": "INFO" if verbose else "WARNING"},
            work_dir,
        )


class _Erasure:
    def __init__(
        self,
        model: nn.Module,
        forget: Samples,
        retain: Samples | None,
        class_names: Sequence[str] | None,
        classes: Any,
        method: str,
        seed: int,
        device: Any,
        masking: str,
    ) -> None:
        check_model(model)
        check_retain(method, retain)
        self.model, self.forget, self.retain, self.method, self.seed = model, forget, retain, method, seed
        self.device = torch.device(device) if device is not None else device_of(model)
        self.numbers = np.linspace(0, len(forget), min(MEASURED, len(forget)), endpoint=False).astype(int)
        student = copy_model(model).to(self.device)
        found = known_class_names(forget.items)
        count = count_classes(student, forget, seed, class_names or found)
        if class_names is None:
            # A folder with the forgotten class alone names one class; that says nothing of the model's.
            class_names = found if found is not None and len(found) == count else None
        elif len(class_names) != count:
            raise RequestError(
                f"class_names holds {len(class_names)} names and the model has {count} logits; name every logit, in order"
            )
        self._refuse_unknown_names(classes, class_names, count)
        for samples in (forget, retain):
            if samples is not None and class_names is not None:
                samples.read_labels_by_name(class_names)
        self.names = list(class_names) if class_names is not None else [f"class_{i}" for i in range(count)]
        self.ids = resolve_classes(classes, self.names)
        self.labels = torch.cat([labels for _, labels in forget.batches(range(len(forget)), READ_BATCH, seed)])
        check_labels(self.labels, self.ids, self.names)
        self._check_needed_labels(masking)
        for tensor in (*student.parameters(), *student.buffers()):
            if tensor.dtype in HALF:  # too coarse for small steps, and Adam's epsilon is 0 in float16
                tensor.data = tensor.data.float()
        self.student = ImageClassifier(student, num_classes=count)

    @staticmethod
    def _refuse_unknown_names(classes: Any, class_names: Sequence[str] | None, count: int) -> None:
        wanted = [classes] if isinstance(classes, (str, int)) else list(classes)
        named = [name for name in wanted if isinstance(name, str)]
        if class_names is None and named:
            raise RequestError(
                f"classes names {', '.join(map(repr, named))}, but what the model's {count} logits are called is not known; "
                "give class_names=[...] in the order of the logits, or the classes as ids"
            )

    def _check_needed_labels(self, masking: str) -> None:
        # With a single class to forget, that is what an image without a label shows.
        read = "masking='own'" if masking == "own" else self.method if method_class(self.method).needs_labels else None
        if read is not None and len(self.ids) > 1 and bool((self.labels == NO_LABEL).any()):
            raise RequestError(
                f"{read} needs the label of each image where several classes are forgotten, and forget_images has images "
                "without one; give (image, label) samples, or use method='DELETE' with masking='all'"
            )

    def run(self, recipe: dict[str, Any], options: dict[str, Any], work_dir: str | Path | None) -> Erased:
        if recipe["batch_size"] is None:
            recipe["batch_size"] = self.forget.batch_size
        if recipe["lr"] is None and self.method == "DELETE" and "lr" not in recipe.get("optimizer", {}):
            recipe["lr"] = rate_for(RATES["DELETE"], sum(p.numel() for p in self.model.parameters()))
        unlearn = unlearn_options(self.ids, self.method, recipe)
        if options["resume"] and work_dir is None:
            raise RequestError("resume=True goes on from the state in work_dir; give work_dir")
        if work_dir is None:
            # Nobody can resume from a folder that goes: states in between would only cost time.
            unlearn.setdefault("checkpoint_interval", unlearn["steps"])
            with tempfile.TemporaryDirectory(prefix="delete_tasks_") as folder:
                return self._run(unlearn, options, folder)
        return self._run(unlearn, options, str(work_dir))

    def _run(self, unlearn: dict[str, Any], options: dict[str, Any], folder: str) -> Erased:
        original = str(Path(folder) / "original.safetensors")
        state = {name: tensor.detach().clone() for name, tensor in tensors(self.student.state_dict()).items()}
        save_file(state, original)
        before = self._measure(self.student)
        dataset = UserData(self.forget, self.labels, self.names, self.ids, self.retain)
        name = f"erase_{uuid.uuid4().hex}"
        begin = time.monotonic()
        try:
            runner = build_runner(
                self.student,
                dataset,
                original,
                folder,
                unlearn,
                seed=self.seed,
                device=self.device,
                name=name,
                **options,
            )
            runner.train()
        finally:
            forget_runner(name)
        seconds = time.monotonic() - begin
        erased = copy_model(self.model)
        erased.load_state_dict(self.student.state_dict())
        after = self._measure(ImageClassifier(copy_model(erased).to(self.device), num_classes=len(self.names)))
        figures = {
            "classes": [self.names[i] for i in self.ids],
            "seconds": round(seconds, 2),
            "steps": runner.iter // runner.accumulation,
            "forget_set": {"samples": len(self.forget), "measured": len(self.numbers)},
            "retain_set": None if self.retain is None else len(self.retain),
            "masked_mass": {"before": before[0], "after": after[0]},
            "predicted_as_forgotten": {"before": before[1], "after": after[1]},
            "unlearn": {**unlearn, "classes": [self.names[i] for i in self.ids], "seed": self.seed},
        }
        return Erased(erased, figures)

    def _measure(self, model: ImageClassifier) -> tuple[float, float]:
        """Mean probability of the forgotten classes, and percent of images that are predicted as one of them."""
        model.eval()
        logits = torch.cat(
            [
                predict_batch(model, images).cpu()
                for images, _ in self.forget.batches(self.numbers.tolist(), READ_BATCH, self.seed)
            ]
        )
        mass = masked_mass(logits, class_mask(self.ids, logits.shape[1], 2)).mean()
        said = torch.isin(logits.argmax(1), torch.tensor(self.ids)).float().mean()
        return round(float(mass), 6), round(100 * float(said), 2)
