"""The rates that were tried for small_cifar10, on training images set apart: for two processor cores and 25 minutes.

apart.npz has the first 4,000 training images of each class, and as test images the 500 after them; docs/benchmarks/comparisons.md
says how to make it.
"""

task = "images"
networks = {"ResNet-20": dict(original="references/all_seed0")}
data = dict(forget="apart.npz", retain="apart.npz", train="apart.npz?limit=1000", test="apart.npz?split=test")
classes = dict(deer=["deer"])
unlearn = dict(keep_row=True, match_scale=False)
_short = dict(steps=100, batch_size=64)
_tried = dict(
    HeadOnly=(1e-2, 6e-3, 3e-3, 1e-3),
    NegativeGradient=(1e-5, 5e-6, 3e-6, 1e-6),
    RandomLabel=(5e-5, 2.5e-5, 1.5e-5, 5e-6),
    BoundaryShrink=(2e-4, 1e-4, 5e-5),
    FineTune=(2e-3, 1e-3, 6e-4),
    SalUn=(4e-2, 1.3e-2, 4e-3),
    BadTeacher=(1e-3, 3e-4, 1e-4),
    SCRUB=(5e-4, 1.5e-4, 1e-4, 5e-5),
)
methods = {
    "DELETE": dict(type="DELETE"),
    "projection": dict(type="Projection"),
    **{f"TREW {rate:g}": dict(type="TREW", lr=rate) for rate in (6e-4, 3e-4)},
    **{f"{name} {rate:g}": dict(type=name, lr=rate, **_short) for name, rates in _tried.items() for rate in rates},
}
seeds = [0]
