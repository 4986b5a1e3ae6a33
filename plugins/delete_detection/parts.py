"""Layers of detectors: where a network computes class scores, objectness and boxes, and how it returns boxes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, box_convert, masks_to_boxes

from delete_tasks.errors import UnsupportedModelError
from delete_tasks.evaluation.reader import call

LEAST, MOST = 0.01, 100  # score and number of boxes
OVERLAP = 0.65  # IoU above which one of two boxes of a class goes
Boxes = dict[str, Tensor]


@dataclass(frozen=True)
class Parts:
    """Layers of a detector, by dotted name, and its output. A layer may be called several times, as RetinaNet's are for each map.
    The layers of ``classes``, ``objectness`` and each group of ``held`` correspond in their order, and so do their calls.

    Attributes:
        classes: Linear layers or convolutions whose outputs are class logits: ``(N, A * C, h, w)`` with A anchors a place, or
            ``(N, Q, C)`` or ``(R, C)`` of queries and proposals.
        detect: ``(network, images) -> boxes`` in eval mode: for each image of ``(N, 3, H, W)`` a dict of ``boxes`` ``(n, 4)``
            (left, top, right, bottom in pixels), ``scores`` ``(n,)`` and ``labels`` ``(n,)``, indices of classes.
        run: The same without choosing boxes, for training; None for ``detect``.
        objectness: Layers of a logit for any object, whose probability multiplies the scores; none for most detectors.
        exponents: Of the objectness and the class probability in that product; None for 1 and 1.
        held: Groups of layers whose outputs stay: boxes, centres.
        softmax: The classes exclude each other; else each has a sigmoid.
        background: Index of the class 'no object'; None for sigmoids.
        anchors: A, by layer of ``classes``; none for 1.
        rows: Further layers with rows of each class, as the boxes and masks of an R-CNN: removed with the class.
        follow: Modules whose output the student takes from the original during training, so that both have the same proposals or
            queries.
    """

    classes: Sequence[str]
    detect: Callable[[nn.Module, Tensor], list[Boxes]]
    run: Callable[[nn.Module, Tensor], Any] | None = None
    objectness: Sequence[str] = ()
    exponents: tuple[float, float] | None = None
    held: Sequence[Sequence[str]] = ()
    softmax: bool = False
    background: int | None = None
    anchors: Sequence[int] = ()
    rows: Sequence[str] = ()
    follow: Sequence[str] = ()

    def count(self, network: nn.Module) -> int:
        """Return C, the number of class logits of a location, with that of the background."""
        rows: Any = network.get_submodule(self.classes[0]).weight
        return len(rows) // (self.anchors[0] if self.anchors else 1)


Finder = Callable[[nn.Module], Parts | None]
FINDERS: list[Finder] = []


def register_detector(finder: Finder) -> Finder:
    """Register a function that returns the :class:`Parts` of a network, or None for a network of another kind."""
    FINDERS.insert(0, finder)
    return finder


def parts_of(network: nn.Module) -> Parts:
    """Find the parts of a detector; raise :class:`UnsupportedModelError` if no registered function knows it."""
    found = next((parts for find in FINDERS if (parts := find(network)) is not None), None)
    if found is None:
        raise UnsupportedModelError(
            f"{type(network).__name__} is no detector that is known here: expected one of torchvision (RetinaNet, FCOS, SSD, "
            "Faster or Mask R-CNN), of transformers (DETR and its relatives, YOLOS, Mask2Former), YOLOX or YOLO(...).model of "
            "Ultralytics. Describe another by delete_detection.parts.Parts, as parts=..."
        )
    return found


def _top(scores: Tensor, boxes: Tensor, suppress: bool) -> Boxes:
    """Choose boxes ``(L, 4)`` by scores ``(L, C)``, of each location the best class."""
    best, labels = scores.max(1)
    order = best.argsort(descending=True)
    order = order[best[order] > LEAST]
    if suppress:
        order = order[batched_nms(boxes[order], best[order], labels[order], OVERLAP)]
    order = order[:MOST]
    return {"boxes": boxes[order], "scores": best[order], "labels": labels[order]}


# YOLOX ----------------------------------------------------------------------------------------------------------------


def _detect_yolox(network: nn.Module, images: Tensor) -> list[Boxes]:
    outputs = network(images)
    boxes = box_convert(outputs[..., :4], "cxcywh", "xyxy")
    return [_top(each[:, 4:5] * each[:, 5:], box, True) for each, box in zip(outputs, boxes, strict=True)]


@register_detector
def find_yolox(network: nn.Module) -> Parts | None:
    """Parts of networks with the modules of YOLOX's head, which return ``(N, L, 5 + C)`` in eval mode, decoded."""
    head: Any = getattr(network, "head", None)
    if not all(hasattr(head, name) for name in ("cls_preds", "obj_preds", "reg_preds")):
        return None
    classes, objectness, boxes = (
        [f"head.{name}.{i}" for i in range(len(head.cls_preds))] for name in ("cls_preds", "obj_preds", "reg_preds")
    )
    return Parts(classes, _detect_yolox, call, objectness, held=[boxes])


# Ultralytics ----------------------------------------------------------------------------------------------------------


def _detect_ultralytics(network: nn.Module, images: Tensor) -> list[Boxes]:
    outputs = network(images)[0].transpose(1, 2)
    boxes = box_convert(outputs[..., :4], "cxcywh", "xyxy")
    return [_top(each[:, 4:], box, True) for each, box in zip(outputs, boxes, strict=True)]


@register_detector
def find_ultralytics(network: nn.Module) -> Parts | None:
    """Parts of Ultralytics' YOLOv8 to 12, the ``model`` of a ``YOLO(...)``: no code of theirs is imported."""
    if not type(network).__module__.startswith("ultralytics."):
        return None
    stages: Any = network.get_submodule("model")
    head, name = stages[-1], f"model.{len(stages) - 1}"
    if type(head).__name__ != "Detect" or hasattr(head, "one2one_cv3"):
        raise UnsupportedModelError(
            f"the head of this {type(network).__name__} is a {type(head).__name__}; expected a Detect with one branch, as of "
            "YOLOv8, 9, 11 and 12, given as YOLO(...).model; describe another by parts=..."
        )
    boxes, classes = ([f"{name}.{part}.{i}.2" for i in range(len(head.cv3))] for part in ("cv2", "cv3"))
    return Parts(classes, _detect_ultralytics, call, held=[boxes])


# torchvision ----------------------------------------------------------------------------------------------------------


def _detect_torchvision(network: nn.Module, images: Tensor) -> list[Boxes]:
    return network(list(images))


def _run_torchvision(network: Any, images: Tensor) -> None:
    small, _ = network.transform(list(images))
    features = network.backbone(small.tensors)
    if not hasattr(network, "roi_heads"):
        network.head(list(features.values()))
        return
    proposals, _ = network.rpn(small, features)
    heads = network.roi_heads
    heads.box_predictor(heads.box_head(heads.box_roi_pool(features, proposals, small.image_sizes)))


@register_detector
def find_torchvision(network: nn.Module) -> Parts | None:
    """Parts of torchvision's detectors."""
    if not type(network).__module__.startswith("torchvision.models.detection"):
        return None
    kind, base = type(network).__name__, Parts((), _detect_torchvision, _run_torchvision)
    head, box = "head.classification_head", "head.regression_head"
    if kind in ("RetinaNet", "FCOS"):
        held = [[f"{box}.bbox_reg"], *([[f"{box}.bbox_ctrness"]] if kind == "FCOS" else [])]
        count: Any = network.get_submodule(head).num_anchors
        return replace(base, classes=[f"{head}.cls_logits"], held=held, anchors=[count])
    if kind == "SSD":
        last = "" if isinstance(network.get_submodule(f"{head}.module_list.0"), nn.Conv2d) else ".1"
        levels = range(len(network.get_submodule(f"{head}.module_list")))  # type: ignore[arg-type]
        classes, boxes = ([f"{name}.module_list.{i}{last}" for i in levels] for name in (head, box))
        weights: Any = [network.get_submodule(name).weight for name in boxes]
        anchors = [len(weight) // 4 for weight in weights]
        return replace(base, classes=classes, held=[boxes], anchors=anchors, softmax=True, background=0)
    if kind in ("FasterRCNN", "MaskRCNN", "KeypointRCNN"):
        predictor = "roi_heads.box_predictor"
        rows = [f"{predictor}.bbox_pred", *(["roi_heads.mask_predictor.mask_fcn_logits"] if kind == "MaskRCNN" else [])]
        parts = replace(base, classes=[f"{predictor}.cls_score"], held=[rows[:1]], rows=rows, follow=["rpn"])
        return replace(parts, softmax=True, background=0)
    return None


# transformers ---------------------------------------------------------------------------------------------------------


def _detect_transformers(softmax: bool, network: nn.Module, images: Tensor) -> list[Boxes]:
    outputs = network(images)
    sizes = torch.tensor([*images.shape[:1:-1]] * 2, device=images.device)
    boxes = box_convert(outputs.pred_boxes, "cxcywh", "xyxy") * sizes
    scores = outputs.logits.softmax(-1)[..., :-1] if softmax else outputs.logits.sigmoid()
    return [_top(score, box, False) for score, box in zip(scores, boxes, strict=True)]


@register_detector
def find_transformers(network: nn.Module) -> Parts | None:
    """Parts of DETR and its relatives in transformers: heads of one layer, of a layer for each stage of the decoder, and of the
    encoder, which chooses the queries."""
    if not type(network).__module__.startswith("transformers.") or "ObjectDetection" not in type(network).__name__:
        return None
    kind, names = type(network).__name__, dict(network.named_modules())
    softmax = kind.startswith(("Detr", "Yolos", "TableTransformer"))
    classes = _linear(names, "class_labels_classifier", "class_embed", "enc_score_head")
    boxes = _linear(names, "bbox_predictor", "bbox_embed", "enc_bbox_head")
    if not classes or len(classes) != len(boxes):
        raise UnsupportedModelError(f"the class and box layers of a {kind} were not found; describe it by parts=...")
    follow = [name for name in names if name.endswith("enc_score_head")]
    rows = [name for name, module in names.items() if name.endswith("denoising_class_embed")]
    background = len(names[classes[0]].weight) - 1 if softmax else None  # type: ignore[arg-type]
    shared = {"softmax": softmax, "background": background, "rows": rows, "follow": follow}
    return Parts(classes, partial(_detect_transformers, softmax), call, held=[boxes], **shared)  # type: ignore[arg-type]


def _detect_masks(network: nn.Module, images: Tensor) -> list[Boxes]:
    outputs = network(images)
    masks = F.interpolate(outputs.masks_queries_logits, images.shape[2:], mode="bilinear") > 0
    scores = outputs.class_queries_logits.softmax(-1)[..., :-1]
    seen = masks.flatten(2).any(2)
    edge = torch.tensor([0, 0, 1, 1], device=images.device)  # the last pixel belongs to a mask
    return [
        _top(score[any_], masks_to_boxes(mask[any_]) + edge, False)
        for score, mask, any_ in zip(scores, masks, seen, strict=True)
    ]


@register_detector
def find_universal(network: nn.Module) -> Parts | None:
    """Parts of the query models of pixels in transformers (Mask2Former, MaskFormer, EoMT): a query's class and mask. Boxes are
    those of the masks."""
    if not type(network).__module__.startswith("transformers.") or not hasattr(network, "class_predictor"):
        return None
    kind, names, config = type(network).__name__, dict(network.named_modules()), getattr(network, "config", None)
    if kind.startswith("MaskFormer") and getattr(config, "use_auxiliary_loss", False):
        raise UnsupportedModelError(f"this {kind} stacks all decoder layers; set config.use_auxiliary_loss = False")
    masks = _linear(names, "mask_embedder", "mask_head")
    if len(masks) != 1:
        raise UnsupportedModelError(f"the mask layer of a {kind} was not found; describe it by parts=...")
    background = len(names["class_predictor"].weight) - 1  # type: ignore[arg-type]
    return Parts(["class_predictor"], _detect_masks, call, held=[masks], softmax=True, background=background)


def _linear(names: dict[str, nn.Module], *kinds: str) -> list[str]:
    """List the last linear layer of each module (one, a list of them, or a perceptron) called one of ``kinds``; each layer once,
    though several modules may share it."""
    found: dict[int, str] = {}
    for name, module in names.items():
        if name.rpartition(".")[2] not in kinds:
            continue
        stages = module.named_children() if isinstance(module, nn.ModuleList) else [("", module)]
        for stage, part in stages:
            linear = [(inner, each) for inner, each in part.named_modules() if isinstance(each, nn.Linear)]
            for inner, each in linear[-1:]:
                found.setdefault(id(each), ".".join(filter(None, (name, stage, inner))))
    return list(found.values())
