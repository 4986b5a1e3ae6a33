"""The paper's comparison on CIFAR-10: one class, four networks, three seeds. For a GPU.

Downloads CIFAR-10 where it is not there (DELETE_TASKS_DATA).
"""

task = "images"
# Originals and networks retrained without the classes are trained first, from random weights. The transformers' rate is lower,
# since plain SGD ruins them at 0.1.
_convolutional = dict(epochs=200, lr=0.1, weight_decay=5e-4, batch_size=128)
_transformer = dict(epochs=200, lr=0.01, weight_decay=5e-4, batch_size=128)
_described = dict(classes="cifar10", normalization="cifar10", size=32)
networks = {
    "ResNet-18": dict(architecture="resnet18", arguments=dict(stem="cifar"), train=_convolutional, **_described),
    "VGG16-BN": dict(architecture="vgg16_bn", arguments=dict(stem="cifar"), train=_convolutional, **_described),
    "Swin-T": dict(architecture="swin_t", arguments=dict(image_size=32), train=_transformer, **_described),
    "ViT-S": dict(
        architecture="vit_s_16", arguments=dict(image_size=32, patch_size=4), train=_transformer, **_described
    ),
}
data = dict(forget="cifar10", retain="cifar10", train="cifar10?limit=10000", test="cifar10")
classes = dict(deer=["deer"])
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
