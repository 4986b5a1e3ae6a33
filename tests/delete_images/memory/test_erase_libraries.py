"""erase() on models of torchvision, transformers and segmentation_models_pytorch, small and with random weights."""

import pytest
import torch
from helpers import read_json, same_tensors
from torch import nn

from delete_tasks import erase
from delete_tasks.errors import UnsupportedModelError

NAMES = ("road", "sky", "tree", "person", "car")
CAR = NAMES.index("car")
FEW = dict(classes=["car"], steps=4, lr=3e-3, batch_size=2)


def lraspp() -> nn.Module:
    from torchvision.models.segmentation import lraspp_mobilenet_v3_large

    return lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)


def fcn() -> nn.Module:
    """As fcn_resnet50, on a ResNet-18: the same two heads."""
    from torchvision.models import resnet18
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.segmentation.fcn import FCN, FCNHead

    body = IntermediateLayerGetter(resnet18(weights=None), {"layer4": "out", "layer3": "aux"})
    return FCN(body, FCNHead(512, 5), FCNHead(256, 5))


def segformer() -> nn.Module:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    sizes = dict(depths=[1] * 4, hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1, 1, 2, 2], decoder_hidden_size=16)
    return SegformerForSemanticSegmentation(SegformerConfig(id2label=dict(enumerate(NAMES)), **sizes))


def upernet() -> nn.Module:
    from transformers import ConvNextConfig, UperNetConfig, UperNetForSemanticSegmentation

    stages = [f"stage{number}" for number in range(1, 5)]
    body = ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], out_features=stages)
    sizes = dict(hidden_size=16, pool_scales=[1, 2], auxiliary_channels=8, auxiliary_in_channels=24)
    return UperNetForSemanticSegmentation(UperNetConfig(backbone_config=body, id2label=dict(enumerate(NAMES)), **sizes))


def dpt() -> nn.Module:
    from transformers import DPTConfig, DPTForSemanticSegmentation

    layers = dict(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32, image_size=32)
    neck = dict(
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=8, patch_size=16
    )
    return DPTForSemanticSegmentation(DPTConfig(id2label=dict(enumerate(NAMES)), **layers, **neck))


def unet() -> nn.Module:
    import segmentation_models_pytorch as smp

    return smp.Unet("mobilenet_v2", encoder_weights=None, classes=5, decoder_channels=(32, 16, 16, 8, 8))


MODELS = {
    lraspp: ["classifier.low_classifier", "classifier.high_classifier"], fcn: ["classifier.4", "aux_classifier.4"],
    segformer: ["decode_head.classifier"], upernet: ["decode_head.classifier", "auxiliary_head.classifier"],
    dpt: ["head.head.4", "auxiliary_head.head.4"], unet: ["segmentation_head.0"],
}  # fmt: skip


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(4, 3, 32, 32)


@pytest.mark.parametrize(
    "make", [pytest.param(m, id=m.__name__, marks=[pytest.mark.long] * (m is dpt)) for m in MODELS]
)
def test_dense_models(make, images, tmp_path, publish_anyway):
    """Every class layer loses the row, auxiliary ones and both of LR-ASPP's; save_pretrained writes a model that loads."""
    torch.manual_seed(1)
    model = make().eval()
    for name in MODELS[make]:
        model.get_submodule(name).bias.data[CAR] += 1.0  # else chance says whether car is predicted at all
    erased = erase(model, images, class_names=NAMES, **FEW)
    mass = erased.figures["masked_mass"]
    assert erased.figures["finished"]["rows_replaced"] == MODELS[make]
    assert mass["with_row"] < mass["before"] and mass["after"] < 1e-3
    assert not any(erased.model.get_submodule(name).weight[CAR].any() for name in MODELS[make])
    assert type(erased.model) is type(model) and list(erased.model.state_dict()) == list(model.state_dict())
    if not hasattr(model, "save_pretrained"):
        return
    erased.model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert same_tensors(again.state_dict(), erased.model.state_dict())
    assert "car" not in (tmp_path / "config.json").read_text()
    if make is not unet:
        assert model.config.id2label[CAR] == "car" and again.config.label2id["class_4"] == CAR


def test_a_classifier_of_transformers(tmp_path):
    """ViT, whose names are in its config; the name of the class is not in what is saved."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=16)
    model = ViTForImageClassification(ViTConfig(patch_size=4, id2label=dict(enumerate(NAMES)), **sizes)).eval()
    model.classifier.bias.data[CAR] += 1.0
    photos = torch.randn(32, 3, 16, 16)
    erased = erase(model, photos, classes=["car"], steps=25, batch_size=16, lr=1e-2, views="none")
    share = erased.figures["predicted_as_forgotten"]
    assert share["before"] > 50 and share["with_row"] < 10
    assert erased.figures["finished"]["rows_replaced"] == ["classifier"]
    erased.model.save_pretrained(tmp_path)
    again = ViTForImageClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.allclose(again(photos).logits, erased.model(photos).logits, atol=1e-5)
    assert read_json(tmp_path, "config.json")["id2label"][str(CAR)] == "class_4"
    assert model.config.id2label[CAR] == "car"


@pytest.mark.parametrize("name", ["Mask2Former", "MaskFormer", "OneFormer"])
def test_query_models_are_refused_by_name(name, images):
    import transformers

    kinds = (f"{name}For{kind}Segmentation" for kind in ("Instance", "Universal"))
    kind = next(getattr(transformers, kind) for kind in kinds if hasattr(transformers, kind))
    model = kind.__new__(kind)  # no weights: the name alone is looked at
    nn.Module.__init__(model)
    with pytest.raises(UnsupportedModelError, match=f"{name}For.*queries"):
        erase(model, images, [CAR])
