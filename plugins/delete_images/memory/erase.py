"""erase(): make a model in memory forget, in one call."""

import contextlib
import ctypes
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from delete_tasks.errors import RequestError, require
from delete_tasks.request.ranges import SEED_MOST, truth, whole

require("mmengine", "images")

from .. import register  # noqa: E402, F401
from ..data.transforms import choose_views  # noqa: E402
from ..run_config import default_method  # noqa: E402
from .dense.erasure import DenseErasure  # noqa: E402
from .erasure import Erasure  # noqa: E402
from .model import open_model  # noqa: E402
from .samples import in_words, read_samples  # noqa: E402


@dataclass(frozen=True)
class Erased:
    """Result of :func:`erase`.

    Attributes:
        model: Erased model: the caller's own class, on the same device, with the same dtypes, mode and flags.
        figures: ``seconds``; ``steps`` done; ``classes``; ``forget_set`` (samples read, ``left_out`` by class, and number
            ``measured``); ``retain_set`` and ``public_data`` (samples, or None); ``views``; on the forget set ``masked_mass``
            (mean probability of the forgotten classes) and ``predicted_as_forgotten`` (percent of images or locations), each
            ``before``, ``with_row`` (as training left the last layer) and ``after`` (as returned, see ``keep_row``);
            ``forget_check``, see :func:`delete_tasks.runner.forget_check.check_forgotten`; ``not_forgotten``, the text of the
            warning if more than 5% is left, or None; ``kept``, see :func:`delete_images.metrics.compare_others`; ``damaged``, the
            text of the warning if significantly less than 85% of these predictions are kept, or None; ``finished``, the changes
            to the last layer; ``done``, see :func:`delete_tasks.runner.done.statement`; ``unlearn``, the recipe. For
            models with locations also ``locations`` (number measured), ``predicted_as`` (predictions at locations that the
            original assigns to the forgotten classes, percent by class) and ``rows``, see
            :func:`delete_images.memory.dense.evaluate.evaluate`; None without label maps.
    """

    model: nn.Module
    figures: dict[str, Any]

    def __repr__(self) -> str:
        figures, kept = self.figures, self.figures["kept"]
        share, locations = figures["predicted_as_forgotten"], figures.get("locations")
        measured = f"{figures['forget_set']['measured']} images" if locations is None else f"{locations:,} locations"
        parts = [
            f"{type(self.model).__name__} without {', '.join(figures['classes'])}",
            f"predicted so {share['before']:.1f}% -> {share['with_row']:.1f}% of {measured}",
        ]
        if figures["damaged"] is not None:
            parts.insert(1, "OTHERS DAMAGED")
        if figures["not_forgotten"] is not None:
            parts.insert(1, "NOT FORGOTTEN")
        if kept is not None:
            parts.append(f"others keep {kept['same_prediction']:.1f}% of {kept['samples']} predictions on {kept['on']}")
        if figures["forget_set"]["left_out"]:
            parts.append(f"left out: {in_words(figures['forget_set']['left_out'])}")
        return f"Erased({'; '.join(parts)}; {figures['steps']} steps of {figures['unlearn']['type']}, {figures['seconds']:.0f} s)"


def erase(
    model: nn.Module,
    forget_images: Any,
    classes: Sequence[str | int] | str | int,
    *,
    class_names: Sequence[str] | None = None,
    retain: Any = None,
    public: Any = None,
    views: str | Callable[[Tensor], Tensor] | None = None,
    method: str | None = None,
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
    """Make a classifier or a segmentation model forget classes (DELETE, CVPR 2025, arXiv 2503.23751).

    The model passed in does not change, and nothing of it is written to disk. Only images of the forgotten classes are needed,
    and no labels. Half-precision models are trained as a float32 copy. Parameters that require no gradient do not change. A run
    that forgets something but leaves more than 5% (see ``not_forgotten`` in the figures), or that damages the other classes
    (``damaged``), returns its model with a warning.

    Args:
        model: Module that maps a batch to logits ``(N, C)`` or ``(N, C, *locations)``, or to a tuple or dict that holds them:
            of torchvision (``out`` and ``aux``), transformers (``.logits``, of any size), segmentation_models_pytorch and others.
            Auxiliary outputs are unlearned as well. The config of a transformers model loses the names of the classes.
        forget_images: Forget set: a Dataset, DataLoader or tensor. Samples are ``(image, label)`` or images, as the tensors that
            the model takes. Images labelled with other classes are left out, with a warning. For models with locations, a
            label is a map of integers of any size, void where it is 255 or negative; images without any of the classes, by label
            map or else by the model's predictions, are left out. Void locations take part in the loss; padding, where a batch's
            ``pixel_mask`` is 0, does not.
        classes: Names of the classes, or ids, as 3 or '#3'.
        class_names: Names of all C logits, in order. By default those of ``forget_images.classes`` (or ``class_names``) or of the
            config of a transformers model; not needed with ids.
        retain: Retain set: samples of other classes. One joins each forget image, with nothing masked, so that the model keeps
            the original's prediction for it.
        public: Any samples: one joins each forget image; their labels are not read. Less of the class is then left in the
            features.
        views: Random views to train on, as ``--augment`` of the command: 'strong' (default of DELETE; the original predicts other
            classes in some of them, which helps to keep these), 'plain' (crops and flips, default of other methods) or 'none'
            (for samples that are no images, and the default for models with locations); or a function from a sample's tensor to
            a view of it.
        method: Name of a registered method, see ``delete-tasks methods``. By default 'DeepDELETE', which erases the class from
            the features as well; 'DELETE' for fewer than 300 steps, without strong views, with ``retain``, if no linear layer
            computes the logits, for models with locations, and with ``activation='sigmoid'``.
        steps, lr, batch_size: Length, learning rate and batch size of the run, by default those of ``images forget``: 600 steps
            of 64 with AdamW at 4e-4 (DELETE: 300 at 1e-4), or less for more than 300,000 parameters or fewer steps, see
            :func:`delete_images.run_config.default_recipe`; 100 of 128 without strong views. With locations 200 of 4 at 1e-4. A
            DataLoader's own batch size is not used.
        seed: Random seed; it determines the result.
        device: Device to train on; the model's own by default.
        work_dir: Folder for the run's states, to resume from; by default none are kept. Its files name the classes.
        resume: Continue from the last state in ``work_dir``.
        num_workers: Processes of the data loader.
        verbose: Log the run.
        options: Options of the method, as in ``unlearn = dict(...)``: teacher_temperature, masking, stop, norm_eval, ...;
            ``keep_row=True`` keeps the forgotten classes' weights in the last layer, ``match_scale=False`` the scale of the
            logits as training left it.

    Raises:
        RequestError: Unknown classes, unreadable data, no image of the classes, a run that forgot nothing, ...
        UnsupportedModelError: No logits, probabilities in their place, logits of queries (Mask2Former, MaskFormer, OneFormer), no
            trainable parameter, a model that cannot be copied or is wrapped.

    Example:
        ``erased = erase(model, deer_images, classes=[4]).model``
    """
    whole("seed", seed, 0, SEED_MOST)
    whole("num_workers", num_workers, 0, 10_000)
    truth("resume", resume)
    with preserve_process_state():
        forget = read_samples(forget_images, "forget_images")
        if retain is not None and public is not None:
            raise RequestError("retain and public are given, and one sample joins each forget image; leave one out")
        beside, argument = (retain, "retain") if public is None else (public, "public")
        clean = None if beside is None else read_samples(beside, argument)
        opened = open_model(model, forget, class_names, seed, device, options.get("activation"))
        kind = DenseErasure if opened.dimensions else Erasure
        if method is None:
            shown = choose_views(views, kind.default_views or "strong", opened.images)[0]
            beside = {"public": public is not None, "retain": retain is not None}
            method = default_method(shown, steps, model.state_dict(), len(opened.names), **beside)
            method = "DELETE" if options.get("activation") == "sigmoid" else method
        erasure = kind(opened, forget, clean, views, classes, method, seed, options)
        recipe = {"steps": steps, "lr": lr, "batch_size": batch_size, **options}
        loop = {"resume": resume, "num_workers": num_workers, "log_level": "INFO" if verbose else "WARNING"}
        return Erased(*erasure.run(recipe, loop, work_dir))


@contextlib.contextmanager
def preserve_process_state() -> Iterator[None]:
    """Run in PyTorch's default modes (gradients on, autocast off, CPU as default device) with subnormal numbers flushed to zero;
    restore the process-wide settings that a run changes: the random states of Python, NumPy and PyTorch, the start method of
    processes, OpenCV's threads, and the flushing."""
    with contextlib.ExitStack() as stack:
        stack.callback(random.setstate, random.getstate())
        stack.callback(np.random.set_state, np.random.get_state())
        start_method = torch.multiprocessing.get_start_method(allow_none=True)
        stack.callback(torch.multiprocessing.set_start_method, start_method, force=True)
        if "cv2" in sys.modules:
            stack.callback(sys.modules["cv2"].setNumThreads, sys.modules["cv2"].getNumThreads())
        stack.callback(_flush_subnormal, sys.float_info.min / 2 == 0)  # PyTorch has no getter
        _flush_subnormal(True)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.random.fork_rng())
        yield


def _flush_subnormal(flush: bool) -> None:
    """Set whether this thread and the worker threads of its operations flush subnormal numbers to zero."""
    torch.set_flush_denormal(flush)
    # Workers inherit it when they start, and keep it. OpenMP 5.0 can end them (1: omp_pause_soft); operations start new ones.
    with contextlib.suppress(AttributeError, OSError, TypeError):  # an older OpenMP; Windows
        ctypes.CDLL(None).omp_pause_resource_all(1)
