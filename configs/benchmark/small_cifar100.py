"""A published ResNet-20 on CIFAR-100, 1, 5, 10 and 20 classes: for two processor cores and half an hour (--processes 2).

The data are the part of CIFAR-100 in ../shared: 300 training images of each of the first 20 classes, 25 of each other, 50 test
images a class. There is no retrained network. Runs are shorter than the methods' own recipes, DELETE's among them; rates were
chosen by H-mean on training images set apart, for 5 classes, see docs/benchmarks/comparisons.md.
"""

task = "images"
networks = {
    "ResNet-20": dict(
        architecture="stage_relu_resnet20",
        classes="cifar100",
        normalization="cifar100",
        original="../shared/weights/cifar100_resnet20.pth",
    )
}
data = dict(
    forget="cifar100:../shared/data/cifar100",
    retain="cifar100:../shared/data/cifar100",
    train="cifar100:../shared/data/cifar100?limit=3000",
    test="cifar100:../shared/data/cifar100",
)
_first = ["apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle"]
_next = ["bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle"]
classes = {"1 class": _first[:1], "5 classes": _first[:5], "10 classes": _first, "20 classes": _first + _next}
# A method's own last layer is what its accuracies are of: with its row taken out, any model forgets.
unlearn = dict(keep_row=True, match_scale=False)
methods = {
    # The forget set alone.
    "DELETE": dict(type="DELETE", lr=2e-4, temperature=2.0, steps=100),
    "head only": dict(type="HeadOnly", lr=2e-3, steps=100, batch_size=64),
    "projection": dict(type="Projection"),
    "negative gradient": dict(type="NegativeGradient", steps=100, batch_size=64),
    "random label": dict(type="RandomLabel", lr=2.5e-5, steps=100, batch_size=64),
    "boundary shrink": dict(type="BoundaryShrink", lr=2e-4, steps=100),
    "TREW": dict(type="TREW", lr=3e-4, steps=100),
    # With retain data.
    "fine-tuning": dict(type="FineTune", lr=1e-3, steps=100, batch_size=64),
    "SalUn": dict(type="SalUn", lr=4e-3, steps=100, batch_size=64),
    "bad teacher": dict(type="BadTeacher", lr=3e-4, steps=100, batch_size=64),
    "SCRUB": dict(type="SCRUB", lr=1e-4, steps=100, batch_size=64),
}
seeds = [0]
