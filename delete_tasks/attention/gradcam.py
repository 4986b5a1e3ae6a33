"""Raw Grad-CAM maps: signed, at the layer's size, without rescaling."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import RequestError, require
from ..model.features import Layer, LogitsOf
from ..model.modes import untouched

Map = NDArray[np.float32]


def class_score(logits: Tensor, class_id: int, where: NDArray[np.bool_] | None = None) -> Tensor:
    """Sum a class's logits ``(N, C, *locations)`` over locations: the target of Grad-CAM, and of Seg-Grad-CAM (Vinogradova et
    al., AAAI 2020, arXiv 2002.11434, eq. 3) with a mask ``where`` of the locations (None: all)."""
    chosen = logits[:, class_id]
    if where is None or chosen.ndim == 1:
        return chosen.sum()
    mask = torch.from_numpy(np.ascontiguousarray(where)).to(chosen.device)
    if tuple(mask.shape) != tuple(chosen.shape[1:]):
        mask = F.interpolate(mask[None, None].float(), size=chosen.shape[1:], mode="nearest-exact")[0, 0].bool()
    return (chosen * mask).sum()


def raw_map(
    model: nn.Module,
    logits_of: LogitsOf,
    layer: Layer,
    inputs: Tensor,
    class_id: int,
    where: NDArray[np.bool_] | None = None,
    elementwise: bool = False,
) -> tuple[Map, Tensor]:
    """Grad-CAM (Selvaraju et al., ICCV 2017, arXiv 1610.02391, eq. 1 and 2) without its ReLU and without any rescaling.

    The weights and their sum are pytorch-grad-cam's, without its scaling of each map to its maximum, which shows noise.

    Model, ``logits_of`` and ``inputs``, on the model's device, are as of :func:`delete_tasks.model.features.find_layer`, which
    finds a ``layer``; ``where`` is that of :func:`class_score`. ``elementwise`` multiplies each location by its gradient
    (HiResCAM, Draelos and Carin, arXiv 2011.08891, eq. 5). For heads that average the map this is Grad-CAM; it is needed for
    heads that weigh locations differently (a depthwise convolution over the whole map, as in MobileFaceNet).

    Return the signed map, float32 ``(h, w)``, and the logits ``(1, C, *locations)``, detached. Raise :class:`RequestError` if the
    layer is not in the model, or the class's score does not depend on it, :class:`MissingExtraError` without pytorch-grad-cam.
    """
    library: Any = require("pytorch_grad_cam", "audit")
    module = dict(model.named_modules()).get(layer.name)
    if module is None:
        lacking = f"{type(model).__name__} has no layer '{layer.name}'"
        raise RequestError(f"{lacking}; look at models of one architecture together")
    with untouched(model):
        # Start the graph at the layer: earlier layers need no gradient, which saves most of the work. Clone, since later layers
        # may change the output in place. Registered before the library's hooks, so that they see this output.
        begin = module.register_forward_hook(lambda _, __, output: output.detach().requires_grad_().clone())
        cam = library.GradCAM(model, [module], layer.as_map)
        recorder = cam.activations_and_grads
        try:
            with torch.enable_grad():
                logits = logits_of(model, inputs)
                score = class_score(logits, class_id, where)
                if score.requires_grad:
                    score.backward()
            if len(recorder.activations) != 1 or len(recorder.gradients) != 1:
                counts = f"ran {len(recorder.activations)} times and got {len(recorder.gradients)} gradients"
                advice = "name a layer (--layer) that runs once, and on which the class's logit depends"
                raise RequestError(f"layer '{layer.name}' {counts}; {advice}")
            activations, gradients = recorder.activations[0].numpy(), recorder.gradients[0].numpy()
        finally:
            recorder.release()
            begin.remove()
        kind = library.HiResCAM if elementwise else library.GradCAM
        maps = kind.get_cam_image(cam, inputs, module, [], activations, gradients, eigen_smooth=False)
    return np.asarray(maps[0], np.float32), logits.detach()


def enlarge(small: Map, size: tuple[int, int]) -> Map:
    """Resize a map ``(h, w)`` bilinearly to (H, W)."""
    tensor = torch.from_numpy(small)[None, None]
    return F.interpolate(tensor, size=size, mode="bilinear", align_corners=False)[0, 0].numpy()
