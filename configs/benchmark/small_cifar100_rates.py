"""The rates that were tried for small_cifar100, on training images set apart: for two processor cores and half an hour.

apart100.npz has the first four fifths of each class's training images, and as test images the rest;
docs/benchmarks/comparisons.md says how to make it.
"""

_base_ = ["./small_cifar100.py"]
data = dict(
    forget="apart100.npz", retain="apart100.npz", train="apart100.npz?limit=1000", test="apart100.npz?split=test"
)
classes = {"_delete_": True, "5 classes": ["apple", "aquarium_fish", "baby", "bear", "beaver"]}
_short = dict(steps=100, batch_size=64)
_tried = dict(
    HeadOnly=(2e-3, 6e-4, 2e-4),
    NegativeGradient=(1e-5, 3e-6),
    RandomLabel=(2.5e-5, 8e-6),
    BoundaryShrink=(2e-4, 5e-5),
    FineTune=(1e-3, 3e-4),
    SalUn=(1.3e-2, 4e-3),
    BadTeacher=(3e-4, 1e-4),
    SCRUB=(1e-4, 3e-5),
)
_temperatures = {1.0: (6e-4, 2e-4, 1e-4, 5e-5, 2.5e-5), 2.0: (6e-4, 2e-4, 1e-4, 5e-5, 2.5e-5), 4.0: (6e-4, 2e-4)}
methods = {
    "_delete_": True,
    **{
        f"DELETE {rate:g} T {t:g}": dict(type="DELETE", lr=rate, steps=100, temperature=t)
        for t, rates in _temperatures.items()
        for rate in rates
    },
    "DELETE x300": dict(type="DELETE"),
    "DELETE x300 T 2": dict(type="DELETE", temperature=2.0),
    "projection": dict(type="Projection"),
    **{f"{name} {rate:g}": dict(type=name, lr=rate, **_short) for name, rates in _tried.items() for rate in rates},
    **{f"TREW {rate:g}": dict(type="TREW", lr=rate, steps=100) for rate in (3e-4, 1e-4, 5e-5)},
}
