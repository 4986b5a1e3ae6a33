"""DELETE by inverted triggers, which are searched for anew while the model trains."""

from typing import Any, ClassVar

import torch
from mmengine.registry import HOOKS
from torch import Tensor, nn

from delete_tasks.errors import RequestError
from delete_tasks.methods.delete import DELETE
from delete_tasks.model.facts import Facts
from delete_tasks.model.modes import in_eval_mode
from delete_tasks.request.ranges import number, whole
from delete_tasks.task import Run

from ..find.invert import pixels_of, smallest_mask

STEPS, WORKS = 120, 0.6  # optimizer steps of a search, and share of the images that a patch sends to the target
COVERS, AROUND = 0.3, 2  # share of its maximum from which on the mask covers a pixel, and pixels around these
NEWEST = 0.55  # share of the pasted samples with the newest patch; the others get any


@HOOKS.register_module()
class InversionDELETE(DELETE):
    """DELETE for a trigger that trigger inversion found, which is one of many that work.

    ``unlearn = dict(type='InversionDELETE', classes=['airplane'])``. A model that ignores one patch may still obey the attacker's
    trigger. So the smallest patch that sends retain samples to the target is searched for again and again in the model *so far*
    (Neural Cleanse, see :mod:`delete_backdoor.find.invert`), starting from random patterns in the place of the first. Samples of
    the retain set with the trigger pasted on get the newest of these patches, or any. Only with ``backdoor clean``.

    Args:
        searches: Searches in a run, evenly spread over its steps.
        largest: Largest patch that is used, as a share of the image; larger ones are parts of what the target class shows.
        options: See :class:`delete_tasks.methods.delete.DELETE`.
    """

    saved: ClassVar = (*DELETE.saved, "patches", "sizes")

    def __init__(self, searches: int = 20, largest: float = 0.03, **options: Any) -> None:
        super().__init__(**options)
        self.searches = whole("unlearn.searches", searches, 1, 10**6)
        self.largest = number("unlearn.largest", largest, 0, 1)
        self.patches: list[Tensor] = []  # scale and shift (2, 3, H, W), in 0..1
        self.sizes: list[float] = []  # of all that were searched for, in pixels

    def prepare(self, runner: Run, model: Any) -> None:
        super().prepare(runner, model)
        dataset: Any = runner.train_dataloader.dataset
        dataset = getattr(dataset, "dataset", dataset)
        if getattr(dataset, "estimated", None) is None:
            raise RequestError(
                "InversionDELETE changes the trigger that 'backdoor clean' pastes, and none is pasted here; use type='DELETE'"
            )
        self._dataset = dataset
        others = torch.from_numpy(dataset.retain.labels != dataset.target)
        self._images = pixels_of(dataset.spec, dataset.retain)[others]
        self.patches = self.patches or [torch.stack(dataset.affine)]
        mask = 1 - self.patches[0][0].mean(0)
        covered = (mask >= COVERS * mask.max()).float()[None, None]
        self._near = nn.functional.max_pool2d(covered, 2 * AROUND + 1, 1, AROUND)

    def before_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        super().before_train_iter(runner, batch_idx, data_batch)
        if len(self.sizes) < (self.searches + 1) * batch_idx // runner.train_loop.max_iters:
            self._search(runner)
        inputs, clean = data_batch["inputs"], data_batch["teacher_inputs"]
        for index in (data_batch["retain"] & (inputs != clean).flatten(1).any(1)).nonzero()[:, 0].tolist():
            newest = float(torch.rand(())) < NEWEST
            patch = self.patches[-1 if newest else int(torch.randint(len(self.patches), ()))]
            inputs[index] = self._dataset.pasted(clean[index], *patch)

    def _search(self, runner: Run) -> None:
        """Search for a patch in the model so far, and keep it if it is small enough."""
        model, data = runner.unwrapped_model, self._dataset
        generator = torch.Generator().manual_seed(len(self.sizes))
        images = self._images.to(next(model.parameters()).device)
        with torch.enable_grad(), in_eval_mode(model):
            size, affine = smallest_mask(
                model.network, data.spec, images, data.target, self._near, generator, STEPS, WORKS
            )
        self.sizes.append(round(size, 1))
        if affine is not None and size <= self.largest * images[0, 0].numel():
            scale, shift = torch.from_numpy(affine).permute(0, 3, 1, 2)
            self.patches.append(torch.stack([scale, shift / 255]))
        runner.logger.info(f"Trigger inversion, step {self.step}: {size:.1f} pixels, {len(self.patches)} patches")

    def own_facts(self, facts: Facts) -> dict[str, Any]:
        return {**super().own_facts(facts), "patches": len(self.patches), "patch_pixels": self.sizes}
