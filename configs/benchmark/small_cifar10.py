"""ResNet-20 on CIFAR-10, one class, three seeds: for two processor cores and half an hour (--processes 2).

Original and retrained networks are those of tools/train_references.py in the folder references, where they are; else the
original is He et al.'s of ../shared, and there is no retrained row. Runs are shorter than the methods' own recipes. A rate that
stands here is not the method's own: of several that were tried on training images set apart, it had the highest H-mean, see
docs/benchmarks/comparisons.md.
"""

task = "images"
networks = {
    "ResNet-20": dict(
        architecture="cifar_resnet20",
        classes="cifar10",
        normalization="imagenet",
        original=["references/all_seed0", "../shared/weights/cifar10_resnet20-12fca82f.th"],
        retrained="references/without_{classes}_seed{seed}",
    )
}
data = dict(
    forget="cifar10:../shared/data/cifar10",
    retain="cifar10:../shared/data/cifar10",
    train="cifar10:../shared/data/cifar10?limit=4000",
    test="cifar10:../shared/data/cifar10?limit=5000",
)
classes = dict(deer=["deer"])
# A method's own last layer is what its accuracies are of: with its row taken out, any model forgets.
unlearn = dict(keep_row=True, match_scale=False)
methods = {
    # The forget set alone.
    "DELETE": dict(type="DELETE"),
    "head only": dict(type="HeadOnly", lr=6e-3, steps=100, batch_size=64),
    "projection": dict(type="Projection"),
    "negative gradient": dict(type="NegativeGradient", steps=100, batch_size=64),
    "random label": dict(type="RandomLabel", lr=2.5e-5, steps=100, batch_size=64),
    "boundary shrink": dict(type="BoundaryShrink", lr=2e-4, steps=100),
    "TREW": dict(type="TREW", lr=3e-4),
    # With retain data.
    "fine-tuning": dict(type="FineTune", lr=1e-3, steps=100, batch_size=64),
    "SalUn": dict(type="SalUn", lr=4e-3, steps=100, batch_size=64),
    "bad teacher": dict(type="BadTeacher", lr=3e-4, steps=100, batch_size=64),
    "SCRUB": dict(type="SCRUB", lr=1e-4, steps=100, batch_size=64),
}
seeds = [0, 1, 2]
retrained_seeds = [0, 1, 2]
