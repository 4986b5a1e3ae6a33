"""The paper's comparison on CIFAR-100: 1, 5, 10 and 20 classes, four networks, three seeds. For a GPU.

Downloads CIFAR-100 where it is not there (DELETE_TASKS_DATA).
"""

_base_ = ["./_base_/paper.py"]
task = "images"
# Originals and networks retrained without the classes are trained first, from random weights. The transformers' rate is lower,
# since plain SGD ruins them at 0.1.
_convolutional = dict(epochs=200, lr=0.1, weight_decay=5e-4, batch_size=128)
_transformer = dict(epochs=200, lr=0.01, weight_decay=5e-4, batch_size=128)
_described = dict(classes="cifar100", normalization="cifar100", size=32)
networks = {
    "ResNet-18": dict(architecture="resnet18", arguments=dict(stem="cifar"), train=_convolutional, **_described),
    "VGG16-BN": dict(architecture="vgg16_bn", arguments=dict(stem="cifar"), train=_convolutional, **_described),
    "Swin-T": dict(
        architecture="timm:swin_tiny_patch4_window7_224",
        arguments=dict(img_size=32, patch_size=2, window_size=4),
        train=_transformer,
        **_described,
    ),
    "ViT-S": dict(
        architecture="timm:vit_small_patch16_224",
        arguments=dict(img_size=32, patch_size=4),
        train=_transformer,
        **_described,
    ),
}
data = dict(forget="cifar100", retain="cifar100", train="cifar100?limit=20000", test="cifar100")
_first = ["apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle"]
_next = ["bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle"]
classes = {"1 class": _first[:1], "5 classes": _first[:5], "10 classes": _first, "20 classes": _first + _next}
