"""erase_detector() on a small network of each kind: the class goes, from all layers that hold it, and nothing else is new."""

import copy
from functools import partial

import fastestdet
import pytest
import torch
import transformers
from helpers import same_tensors
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.backbone_utils import BackboneWithFPN, _resnet_fpn_extractor
from torchvision.models.resnet import BasicBlock, ResNet

from delete_detection.data import Pictures, open_pictures, showing
from delete_detection.erase import erase_detector
from delete_detection.model import Detector
from delete_detection.parts import parts_of
from delete_detection.probe import at_boxes
from delete_detection.yolox import YOLOX
from delete_images.models.spec import Preprocessing
from delete_tasks import erase
from delete_tasks.errors import RequestError, UnsupportedModelError

SIZE = 64
INPUT = dict(min_size=SIZE, max_size=SIZE, box_score_thresh=0.3) | dict(rpn_post_nms_top_n_test=20)
DETR = dict(d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=10, num_labels=4, use_timm_backbone=False)  # fmt: skip
RT = dict(d_model=16, encoder_hidden_dim=16, encoder_in_channels=[8, 8, 8], decoder_in_channels=[16] * 3, num_labels=4,
          encoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2, decoder_ffn_dim=16, decoder_layers=2,
          num_queries=10)  # fmt: skip
SMALL = dict(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], layer_type="basic")


def fpn() -> BackboneWithFPN:
    class Narrow(ResNet):
        def __init__(self) -> None:
            super().__init__(BasicBlock, [1, 1, 1, 1])

    return _resnet_fpn_extractor(Narrow(), 5)


def detr(kind: str, stages: list[str], **options) -> nn.Module:
    config = getattr(transformers, f"{kind}Config")
    backbone = transformers.ResNetConfig(**SMALL, out_features=stages)
    options = {**DETR, "backbone_config": backbone, **options}
    return getattr(transformers, f"{kind}ForObjectDetection")(config(**options))


def real_time(kind: str) -> nn.Module:
    backbone = transformers.RTDetrResNetConfig(**SMALL, out_features=["stage2", "stage3", "stage4"])
    network = getattr(transformers, f"{kind}ForObjectDetection")
    return network(getattr(transformers, f"{kind}Config")(**RT, backbone_config=backbone))


def yolos() -> nn.Module:
    sizes = dict(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_detection_tokens=10
    )
    return transformers.YolosForObjectDetection(
        transformers.YolosConfig(**sizes, image_size=[SIZE, SIZE], num_labels=4)
    )


def mask2former() -> nn.Module:
    swin = dict(embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=2, out_features=["stage1", *STAGES])
    sizes = dict(
        feature_size=32, mask_feature_size=16, hidden_dim=16, encoder_feedforward_dim=16, encoder_layers=1, decoder_layers=2,
        num_attention_heads=2, dim_feedforward=16, num_queries=10, num_labels=4,
    )  # fmt: skip
    config = transformers.Mask2FormerConfig(backbone_config=transformers.SwinConfig(**swin), **sizes)
    return transformers.Mask2FormerForUniversalSegmentation(config)


def ultralytics() -> nn.Module:
    return pytest.importorskip("ultralytics.nn.tasks").DetectionModel("yolo11n.yaml", nc=4, verbose=False)


STAGES = ["stage2", "stage3", "stage4"]
SMALLER = dict(min_size=SIZE, max_size=SIZE, score_thresh=0.3)
NETWORKS = {
    "yolox": lambda: YOLOX(4, width=0.125),
    "retinanet": lambda: detection.RetinaNet(fpn(), 5, **SMALLER),
    "fcos": lambda: detection.FCOS(fpn(), 5, **SMALLER),
    "ssdlite": lambda: detection.ssdlite320_mobilenet_v3_large(None, weights_backbone=None, num_classes=5, score_thresh=0.3),
    "faster": lambda: detection.FasterRCNN(fpn(), 5, **INPUT),
    "mask": lambda: detection.MaskRCNN(fpn(), 5, **INPUT),
    "detr": partial(detr, "Detr", STAGES[2:]),
    "conditional": partial(detr, "ConditionalDetr", STAGES[2:]),
    "deformable": partial(detr, "DeformableDetr", STAGES, num_feature_levels=3),
    "two_stage": partial(detr, "DeformableDetr", STAGES, num_feature_levels=3, with_box_refine=True, two_stage=True,
                         two_stage_num_proposals=10),
    "yolos": yolos,
    "rt_detr": partial(real_time, "RTDetr"),
    "d_fine": partial(real_time, "DFine"),
    "mask2former": mask2former,
    "ultralytics": ultralytics,  # not a dependency: its licence is the AGPL
    "fastestdet": lambda: fastestdet.fold(fastestdet.FastestDet(4)),
}  # fmt: skip


@pytest.fixture
def images():
    torch.manual_seed(1)
    return [torch.rand(3, SIZE, SIZE - 8 * (i % 2)) for i in range(4)]


def loud(network: nn.Module) -> nn.Module:
    """Let a network with random weights see class 2 in many places."""
    parts = parts_of(network)
    for name in (*parts.classes, *parts.objectness):
        layer = network.get_submodule(name)
        nn.init.normal_(layer.weight, std=0.3)
        nn.init.constant_(layer.bias, 3.0 if name in parts.objectness else -1.0)
        with torch.no_grad():
            layer.bias[2 :: parts.count(network)] = -0.5
    return network.eval()


SELDOM = ("fcos", "faster", "conditional", "deformable", "yolos", "d_fine", "ultralytics")  # others stand for them


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.long] * (k in SELDOM)) for k in NETWORKS])
def test_the_class_goes_from_every_layer_that_holds_it(kind, images):
    torch.manual_seed(0)
    network = loud(NETWORKS[kind]())
    before, parts = copy.deepcopy(network.state_dict()), parts_of(network)
    count = parts.count(network)
    erased = erase_detector(network, images, [2], size=SIZE, steps=4, batch_size=2, lr=2e-2)
    assert same_tensors(before, network.state_dict()), "the original does not change"
    figures, check = erased.figures, erased.figures["forget_check"]
    assert figures["boxes"]["kept"] == 0 and check["probability_after"] < check["probability_before"]
    assert type(erased.model) is type(network) and figures["finished"]["rows_replaced"] == [*parts.classes, *parts.rows]
    for name in parts.classes:
        weight, bias = (getattr(erased.model.get_submodule(name), key) for key in ("weight", "bias"))
        rows = [anchor * count + 2 for anchor in range(len(weight) // count)]
        assert not weight[rows].any() and (bias[rows] <= -10).all()
    for name in parts.rows:  # boxes and masks of an R-CNN, queries of denoising
        weight = erased.model.get_submodule(name).weight
        width = len(weight) // count
        assert not weight[2 * width : 3 * width].any() and weight[: 2 * width].any()


def test_the_same_seed_gives_the_same_model_and_options_reach_the_method(images):
    torch.manual_seed(0)
    network = loud(YOLOX(4, width=0.125))
    network.names = dict(enumerate(["sky", "road", "car", "tree"]))  # as networks of Ultralytics
    options = dict(size=SIZE, steps=2, batch_size=2, lr=2e-2)
    models = [
        erase_detector(network, images, "car", **options, **more).model
        for more in ({}, {}, dict(into="tree", original_head=0, keep_row=True))
    ]
    assert network.names[2] == "car" and models[0].names == {0: "sky", 1: "road", 2: "class_2", 3: "tree"}
    first, second, into = (model.state_dict() for model in models)
    assert same_tensors(first, second) and not same_tensors(first, into)
    assert into["head.cls_preds.0.weight"][2].any()


@pytest.mark.parametrize("kind", ["faster", "rt_detr"])
def test_probes_read_both_models_at_the_proposals_of_one_image(kind, images):
    torch.manual_seed(0)
    first = loud(NETWORKS[kind]())
    models = {"original": Detector(first, parts_of(first))}
    models["erased"] = Detector(copy.deepcopy(first), parts_of(first))
    models["erased"].follow(
        Detector(loud(NETWORKS[kind]()), parts_of(first))
    )  # the teacher of the run, at its last batch
    models["erased"].original.read(images[0][None])
    read = at_boxes(models, Pictures(images, list("abcd")), [SIZE, SIZE], "")
    assert len(read["original"].labels) and torch.equal(read["original"].features, read["erased"].features)


def test_a_published_detector_of_ones_own_forgets(shared):
    pictures = open_pictures(f"{shared}/data/coco/instances_train.json", Preprocessing((352, 352), channels="BGR"))
    names = [each["name"] for each in pictures.truth["categories"]]
    images = [pictures[number] for number in showing(pictures.truth, ["person"])[:6]]
    network = fastestdet.load(f"{shared}/weights/fastestdet_coco.pth")
    erased = erase_detector(network, images, "person", class_names=names, size=352, steps=20, batch_size=4, lr=1e-4)
    boxes = erased.figures["boxes"]
    assert boxes["all"] > 10 and boxes["kept"] == 0 and boxes["others_kept"] > boxes["others"] / 3


def test_what_cannot_be_erased_is_refused(images):
    with pytest.raises(UnsupportedModelError, match=r"Linear is no detector that is known here.*as parts="):
        erase_detector(nn.Linear(2, 2), images, [1])
    network = NETWORKS["detr"]()
    with pytest.raises(RequestError, match=r"class 4 is the background, which cannot be forgotten"):
        erase_detector(network, images, [4])
    with pytest.raises(RequestError, match=r"tensors \(3, H, W\); got one of shape \(1, 8, 8\)"):
        erase_detector(network, [torch.zeros(1, 8, 8)], [0])
    with pytest.raises(RequestError, match="masks all classes at all locations"):
        erase_detector(network, images, [0], locations="forgotten")
    with pytest.raises(RequestError, match="class_names holds 2 names and the model has 5 logits at each place"):
        erase_detector(network, images, [0], class_names=["a", "b"])
    with pytest.raises(UnsupportedModelError, match=r"no parameter of the model requires a gradient.*requires_grad_"):
        erase_detector(network.requires_grad_(False), images, [0])


def test_logits_of_a_retinanet_are_no_softmax(images):
    class Wrapped(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x):
            features = self.network.backbone(x)
            return self.network.head.classification_head(list(features.values())).transpose(1, 2)

    pictures = torch.stack([image[:, :56, :56] for image in images])
    with pytest.raises(UnsupportedModelError, match=r"below -1.*activation='sigmoid'.*delete_tasks.erase_detector"):
        erase(Wrapped(NETWORKS["retinanet"]()).eval(), pictures, [1], keep_row=True)
