"""Heads of MMSegmentation models: outputs that choose a class, outputs without classes, and heads that are refused."""

from typing import Any, cast

import torch
from mmseg.models.decode_heads import STDCHead
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from delete_tasks.errors import UnsupportedModelError
from delete_tasks.model.head import ClassLayer
from delete_tasks.model.loss_point import LossInputs, Upsample

# Heads without logits per pixel, and the reason.
REFUSED = {
    "PointHead": "it scores points chosen anew for each model, so teacher and student would be compared at different pixels",
    "VPDDepthHead": "it predicts depth, not classes",
}


def heads_of(model: nn.Module) -> dict[str, nn.Module]:
    """List all heads of a segmentor by name, each stage of a cascade and each auxiliary head by itself."""
    heads: dict[str, nn.Module] = {}
    for attribute in ("decode_head", "auxiliary_head"):
        head = getattr(model, attribute, None)
        if isinstance(head, (nn.ModuleList, list, tuple)):
            heads.update({f"{attribute}.{number}": part for number, part in enumerate(head)})
        elif head is not None:
            heads[attribute] = head
    return heads


def main_head(model: nn.Module) -> tuple[str, Any]:
    """Find name and module of the head whose output is the prediction."""
    return [item for item in heads_of(model).items() if item[0].startswith("decode_head")][-1]


def class_logits(model: nn.Module, inputs: Tensor) -> Tensor:
    """Compute logits ``(N, C, H, W)`` at the input's size, from the whole image at once even if the config tests by windows."""
    size = tuple(inputs.shape[-2:])
    meta = {"img_shape": size, "pad_shape": size, "ori_shape": size}  # of all images; heads read the first's
    return cast(Any, model).encode_decode(inputs, [meta])


def classifier(model: nn.Module) -> tuple[str, nn.Module]:
    """Find name and module of the predicting head's last layer; raise UnsupportedModelError if that is no conv_seg."""
    name, head = main_head(model)
    if not isinstance(getattr(head, "conv_seg", None), nn.Conv2d):
        raise UnsupportedModelError(f"{name} ({type(head).__name__}) does not end in conv_seg")
    return f"{name}.conv_seg", head.conv_seg


def class_layers_of(model: nn.Module) -> list[ClassLayer]:
    """Find the layers of class logits in all heads: ``conv_seg``, and a head's further ones (``pam_conv_seg``, ``p_cls_seg``). A
    cascade's earlier stages are not last: the next stage reads their output (OCR's context). K-Net's ``conv_seg`` is left out:
    later stages start from its class weights, and a mean of class weights could win there."""
    main, head = main_head(model)
    classes, layers = head.num_classes, []
    for head_name, head in heads_of(model).items():
        is_last = head_name == main or not head_name.startswith("decode_head")
        for name, layer in head.named_modules():
            gives_classes = name.endswith(("conv_seg", "cls_seg")) and getattr(layer, "out_channels", 0) == classes
            if gives_classes and "kernel_generate_head" not in name:
                layers.append(ClassLayer(f"{head_name}.{name}", layer, is_last))
    return layers


def check_heads(model: nn.Module) -> None:
    """Raise UnsupportedModelError for a head without per-pixel class logits: of another kind, of one output, or ``REFUSED``."""
    for name, head in heads_of(model).items():
        kind = type(head).__name__
        if not isinstance(head, BaseDecodeHead):
            raise UnsupportedModelError(
                f"{name} is a {kind}, which has no per-pixel class logits (it predicts masks or queries); masked "
                "distillation needs a head that gives (N, C, H, W) logits, such as FCNHead, PSPHead or SegformerHead"
            )
        for base in type(head).__mro__:
            if base.__name__ in REFUSED:
                raise UnsupportedModelError(f"{name} is a {kind}, which cannot be unlearned: {REFUSED[base.__name__]}")
        if getattr(head, "use_se_loss", False):
            raise UnsupportedModelError(
                f"{name} is a {kind} with use_se_loss=True: its image-level class scores would remember the class. Train "
                "and load it with use_se_loss=False"
            )
    name, head = main_head(model)
    if head.out_channels == 1:
        raise UnsupportedModelError(
            f"{name} is a single-output (C=1) head: with its class gone nothing is left to predict. Use a two-class head "
            "(num_classes=2, out_channels=2)"
        )


def read_head(name: str, head: Any, classes: int, seg_logits: Any, batch_data_samples: Any, **_: Any) -> LossInputs:
    """Convert the arguments of ``head.loss_by_feat`` to loss inputs; logits are resized to the labels, as the head would.
    ``seg_logits`` are a tensor or nested sequences of them; the samples' ``gt_sem_seg`` have one size (H, W). Raise
    UnsupportedModelError for an output that is neither class logits ``(N, classes, h, w)`` nor a boundary map."""
    labels = torch.stack([sample.gt_sem_seg.data for sample in batch_data_samples]).squeeze(1)
    upsample = Upsample((labels.shape[1], labels.shape[2]), head.align_corners)
    inputs = LossInputs([], [], labels=labels, valid=_not_padding(batch_data_samples, labels), upsample=upsample)
    outputs = tree_leaves(seg_logits)
    for output, weight in zip(outputs, _loss_weights(head, len(outputs)), strict=True):
        # STDC's detail head predicts boundaries alone.
        if isinstance(head, STDCHead) or (output.ndim == 4 and output.shape[1] == 1 and classes > 1):
            inputs.class_free.append(output)
        elif output.ndim == 4 and output.shape[1] == classes:
            inputs.logits.append(output)
            inputs.weights.append(weight)
        else:
            raise UnsupportedModelError(
                f"{name} ({type(head).__name__}) gives an output of shape {tuple(output.shape)}, which is neither class "
                f"logits (N, {classes}, h, w) nor a one-channel boundary map; left as it is, it would keep the class"
            )
    return inputs


def _loss_weights(head: Any, outputs: int) -> list[float]:
    """Read the head's loss weights: one loss for each output in order, or all losses for the one output."""
    loss = getattr(head, "loss_decode", None)  # K-Net's head has none itself
    losses = list(loss) if isinstance(loss, nn.ModuleList) else [loss]
    weights = [float(getattr(loss, "loss_weight", 1.0)) for loss in losses]
    if outputs > 1 and len(weights) >= outputs:
        return weights[:outputs]
    return [sum(weights) if outputs == 1 else weights[0]] * outputs


def _not_padding(samples: Any, labels: Tensor) -> Tensor | None:
    """Make a mask ``(N, H, W)`` that is False where the data preprocessor padded the batch; None if nothing was padded."""
    sizes = [tuple(sample.metainfo.get("img_shape", labels.shape[1:]))[:2] for sample in samples]
    if all(size == tuple(labels.shape[1:]) for size in sizes):
        return None
    valid = torch.zeros_like(labels, dtype=torch.bool)
    for sample, (height, width) in zip(valid, sizes, strict=True):
        sample[:height, :width] = True
    return valid
