"""Steps of erase(): check, train, measure."""

import time
import uuid
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from delete_tasks.errors import RequestError
from delete_tasks.fileio.checkpoint import refuse_non_finite
from delete_tasks.fileio.sampling import evenly_spread
from delete_tasks.fileio.workdir import scratch
from delete_tasks.losses.masks import forgotten_mass, is_forgotten
from delete_tasks.model.modes import in_eval_mode
from delete_tasks.request.classes import ID, as_list, resolve_classes
from delete_tasks.runner.forget_check import not_forgotten
from delete_tasks.task import Run

from .. import run_config as runs
from ..data.opening import NO_LABEL
from ..data.transforms import RANGE_IMAGES, TensorViews, choose_views
from ..metrics import compare_others, damage
from ..models.classifier import ImageClassifier, predict_batch
from .model import MEASURED, OpenModel, check_trainable, copy_model, forget_names_in_config
from .samples import Samples, UserData, in_words, leave_out_others

READ_BATCH = 250
HALF = (torch.float16, torch.bfloat16)


class Erasure:
    """Checked request of :func:`delete_images.memory.erase.erase`, which describes the arguments, for a classifier."""

    def __init__(
        self,
        opened: OpenModel,
        forget: Samples,
        retain: Samples | None,
        views: Any,
        classes: Any,
        method: str,
        seed: int,
        options: Mapping[str, Any],
    ) -> None:
        check_trainable(opened.model)
        self.public = retain is not None and retain.public
        runs.check_retain(method, None if self.public else retain, self.public)
        if options.get("select", "labels") != "labels":
            raise RequestError("erase() forgets the images it is given; leave select out")
        self.model, self.names, self.device = opened.model, opened.names, opened.device
        self.forget, self.retain, self.method, self.seed, self.options = forget, retain, method, seed, dict(options)
        strings = [name for name in as_list(classes) if isinstance(name, str) and not ID.fullmatch(name)]
        if strings and not opened.named:
            raise RequestError(
                f"classes names {', '.join(map(repr, strings))}, but the names of the model's {len(self.names)} logits are not "
                "known; give class_names=[...] in the order of the logits, or the classes as ids, e.g. 3 or '#3'"
            )
        for samples in (forget, retain):
            if samples is not None and opened.named and not samples.public:
                samples.read_labels_by_name(self.names)
        self.ids = resolve_classes(classes, self.names)
        self._choose_samples(opened)
        self.numbers = evenly_spread(len(forget), self.measured).tolist()
        first = next(forget.batches(range(1), 1, seed))[0]
        self.views, self.view = choose_views(views, self.default_views or runs.method_class(method).views, first)
        if isinstance(self.view, str):
            numbers = evenly_spread(len(forget), RANGE_IMAGES).tolist()
            images = torch.cat([batch[0] for batch in forget.batches(numbers, READ_BATCH, seed)])
            self.view = TensorViews(self.view, images)
        for tensor in (*opened.student.parameters(), *opened.student.buffers()):
            if tensor.dtype in HALF:  # too coarse for small steps, and Adam's epsilon is 0 in float16
                tensor.data = tensor.data.float()
        self.student = self._wrapped(opened.student)

    def _label_reader(self) -> str | None:
        """Return the part of the request that reads labels; None if none does."""
        if self.options.get("masking", "all") == "own":
            return "masking='own'"
        return self.method if runs.method_class(self.method).needs_labels else None

    def run(
        self, recipe: dict[str, Any], options: dict[str, Any], work_dir: str | Path | None
    ) -> tuple[nn.Module, dict[str, Any]]:
        """Train and measure; return the erased model and its figures."""
        chosen = {name: value for name, value in recipe.items() if value is not None}
        chosen = runs.over_defaults(self._defaults(chosen.get("steps")), chosen)
        unlearn = runs.unlearn_options(self.ids, self.method, chosen)
        if options["resume"] and work_dir is None:
            raise RequestError("resume=True continues from the state in work_dir; give work_dir")
        original = self._wrapped(copy_model(self.student.network))
        before, with_row = self._measure(original), []
        name = f"erase_{uuid.uuid4().hex}"
        begin = time.monotonic()
        with ExitStack() as stack:
            # A scratch folder is for logs: a run cannot be resumed from it.
            folder = stack.enter_context(scratch()) if work_dir is None else str(work_dir)
            stack.callback(runs.release_runner, name)
            runner = runs.build_runner(
                self.student,
                self._dataset(),
                original,
                folder,
                unlearn,
                at_the_end=lambda: with_row.append(self._measure(self.student)),
                seed=self.seed,
                device=self.device,
                name=name,
                states=work_dir is not None,
                **options,
            )
            runner.train()
        seconds = time.monotonic() - begin
        if runner.outcome.withheld is not None:
            raise RequestError(f"nothing is returned: {runner.outcome.withheld}")
        left = not_forgotten(runner.outcome.forget_check, runner.recipe.steps, runner.recipe.optimizer)
        if left is not None:
            warnings.warn(f"NOT FORGOTTEN: {left}", UserWarning, stacklevel=2)
        slower = f"a smaller learning rate than {runner.recipe.optimizer['lr']}"
        refuse_non_finite(runs.tensors(self.student.state_dict()), slower)
        erased = copy_model(self.model)
        erased.load_state_dict(self.student.state_dict())
        forget_names_in_config(erased, self.ids)
        final = self._wrapped(copy_model(erased).to(self.device))
        after, comparison = self._measure(final), self._comparison(original, final, runner)
        damaged = damage(comparison["kept"], runner.recipe.optimizer)
        if damaged is not None:
            warnings.warn(f"OTHERS DAMAGED: {damaged}", UserWarning, stacklevel=2)
        stages = {"before": before, "with_row": with_row[0], "after": after}
        masses, predicted = ({stage: measured[i] for stage, measured in stages.items()} for i in range(2))
        class_names = [self.names[i] for i in self.ids]
        beside = None if self.retain is None else len(self.retain)
        return erased, {
            "classes": class_names,
            "seconds": round(seconds, 2),
            "steps": runner.iter // runner.accumulation,
            "forget_set": {"samples": len(self.forget), "left_out": self.left_out, "measured": len(self.numbers)},
            "retain_set": None if self.public else beside,
            "public_data": beside if self.public else None,
            "views": self.views,
            "masked_mass": masses,
            "predicted_as_forgotten": predicted,
            "forget_check": runner.outcome.forget_check,
            "not_forgotten": left,
            "damaged": damaged,
            **comparison,
            "finished": runner.outcome.finished,
            "done": runner.outcome.done,
            "unlearn": {**unlearn, "classes": class_names, "seed": self.seed},
        }

    # Overridden for models with more locations ----------------------------------------------------------------------

    measured = MEASURED
    default_views: str | None = None  # None: those of the method

    def _wrapped(self, network: nn.Module) -> ImageClassifier:
        """Wrap a network as a model that a Runner trains."""
        return ImageClassifier(network, num_classes=len(self.names))

    def _dataset(self) -> UserData:
        """Make the run's dataset."""
        return UserData(self.forget, self.labels, self.names, self.ids, self.retain, self.view)

    def _defaults(self, steps: int | None) -> dict[str, Any]:
        """Return the default options of ``unlearn``, for the number of steps if the caller chose one."""
        parameters = runs.count(self.model.state_dict())
        return runs.default_recipe(self.method, self.views, parameters, self.retain is not None, steps)

    def _choose_samples(self, opened: OpenModel) -> None:
        """Leave out samples of other classes; set ``labels`` and ``left_out``."""
        batches = self.forget.batches(range(len(self.forget)), READ_BATCH, self.seed)
        labels = torch.cat([labels for _, labels in batches])
        self.left_out = leave_out_others(self.forget, labels, self.ids, self.names)
        self.labels = labels[is_forgotten(labels, [*self.ids, NO_LABEL])]
        if self.left_out:
            warnings.warn(
                f"forget_images holds {sum(self.left_out.values())} images labelled with classes that are not to be forgotten "
                f"({in_words(self.left_out)}); they are left out. To retain their predictions, give them as retain=",
                UserWarning,
                stacklevel=2,
            )
        # If one class is forgotten, images without a label are of that class.
        if self._label_reader() is not None and len(self.ids) > 1 and bool((self.labels == NO_LABEL).any()):
            raise RequestError(
                f"{self._label_reader()} needs the label of each image if several classes are forgotten, and forget_images has "
                "images without one; give (image, label) samples, or use method='DELETE' with masking='all'"
            )

    def _measure(self, model: Any) -> tuple[float, float]:
        """Measure the mean probability of the forgotten classes, and the percentage of images predicted as one of them."""
        batches = self.forget.batches(self.numbers, READ_BATCH, self.seed)
        with in_eval_mode(model):
            logits = torch.cat([predict_batch(model, images).cpu() for images, _ in batches])
        mass, predicted = forgotten_mass(logits, self.ids), is_forgotten(logits.argmax(1), self.ids)
        if self.options.get("activation") == "sigmoid":
            mass = logits[:, self.ids].sigmoid().amax(1)
            predicted = mass > 0.5
        return round(float(mass.mean()), 6), round(100 * float(predicted.float().mean()), 2)

    def _comparison(self, original: Any, erased: Any, runner: Run) -> dict[str, Any]:
        """Compare the predictions of the other classes: ``kept``."""
        beside = None
        if self.retain is not None:
            beside = self.retain.batches(evenly_spread(len(self.retain), self.measured).tolist(), READ_BATCH, self.seed)
        return {"kept": compare_others(runner, original, erased, beside)}
