"""The paper's comparison on Tiny ImageNet: one class, four networks, three seeds. For a GPU.

The data are the folder tiny-imagenet-200 as it is unpacked, in the current folder or with
--cfg-options data.forget=DIR data.retain=DIR data.train=DIR data.test=DIR.
"""

_base_ = ["./_base_/paper.py"]
task = "images"
# Originals and networks retrained without the classes are trained first, from random weights. The transformers' rate is lower,
# since plain SGD ruins them at 0.1.
_convolutional = dict(epochs=100, lr=0.1, weight_decay=5e-4, batch_size=128)
_transformer = dict(epochs=100, lr=0.01, weight_decay=5e-4, batch_size=128)
_described = dict(classes="data", normalization="imagenet", size=64)
networks = {
    "ResNet-18": dict(architecture="resnet18", arguments=dict(stem="cifar"), train=_convolutional, **_described),
    "VGG16-BN": dict(architecture="vgg16_bn", arguments=dict(stem="cifar"), train=_convolutional, **_described),
    "Swin-T": dict(
        architecture="timm:swin_tiny_patch4_window7_224",
        arguments=dict(img_size=64, patch_size=2, window_size=4),
        train=_transformer,
        **_described,
    ),
    "ViT-S": dict(
        architecture="timm:vit_small_patch16_224",
        arguments=dict(img_size=64, patch_size=8),
        train=_transformer,
        **_described,
    ),
}
data = dict(
    forget="tiny-imagenet-200",
    retain="tiny-imagenet-200",
    train="tiny-imagenet-200?limit=20000",
    test="tiny-imagenet-200",
)
classes = dict(goldfish=["n01443537"])
