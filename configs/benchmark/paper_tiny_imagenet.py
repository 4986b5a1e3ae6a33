"""The paper's comparison on Tiny ImageNet: one class, four networks, three seeds. For a GPU.

The data are the folder tiny-imagenet-200 as it is unpacked, in the current folder or with
--cfg-options data.forget=DIR data.retain=DIR data.train=DIR data.test=DIR.
"""

task = "images"
# Originals and networks retrained without the classes are trained first, from random weights. The transformers' rate is lower,
# since plain SGD ruins them at 0.1.
_convolutional = dict(epochs=100, lr=0.1, weight_decay=5e-4, batch_size=128)
_transformer = dict(epochs=100, lr=0.01, weight_decay=5e-4, batch_size=128)
_described = dict(classes="data", normalization="imagenet", size=64)
networks = {
    "ResNet-18": dict(architecture="resnet18", arguments=dict(stem="cifar"), train=_convolutional, **_described),
    "VGG16-BN": dict(architecture="vgg16_bn", arguments=dict(stem="cifar"), train=_convolutional, **_described),
    "Swin-T": dict(architecture="swin_t", arguments=dict(image_size=64), train=_transformer, **_described),
    "ViT-S": dict(
        architecture="vit_s_16", arguments=dict(image_size=64, patch_size=8), train=_transformer, **_described
    ),
}
data = dict(
    forget="tiny-imagenet-200",
    retain="tiny-imagenet-200",
    train="tiny-imagenet-200?limit=20000",
    test="tiny-imagenet-200",
)
classes = dict(goldfish=["n01443537"])
# A method's own last layer is what its accuracies are of: with its row taken out, any model forgets.
unlearn = dict(keep_row=True, match_scale=False)
methods = {
    # The forget set alone.
    "DELETE": dict(type="DELETE"),
    "head only": dict(type="HeadOnly"),
    "projection": dict(type="Projection"),
    "negative gradient": dict(type="NegativeGradient"),
    "random label": dict(type="RandomLabel"),
    "boundary shrink": dict(type="BoundaryShrink"),
    "boundary expand": dict(type="BoundaryExpand"),
    "influence": dict(type="InfluenceUnlearning"),
    "TREW": dict(type="TREW"),
    "L2UL": dict(type="L2UL"),
    # With retain data.
    "fine-tuning": dict(type="FineTune"),
    "Fisher": dict(type="Fisher"),
    "SalUn": dict(type="SalUn"),
    "bad teacher": dict(type="BadTeacher"),
    "SCRUB": dict(type="SCRUB"),
}
seeds = [0, 1, 2]
retrained_seeds = [0]
