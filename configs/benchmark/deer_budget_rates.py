"""The rates that were tried for deer_budget.py, on training images set apart: for a processor core and half an hour.

apart.npz has the first 4,000 training images of each class, and as test images the 500 after them; docs/benchmarks/comparisons.md
says how to make it.
"""

_base_ = ["./deer_budget.py"]
networks = dict(_delete_=True, apart=dict(original="references/all_seed0"))
data = dict(forget="apart.npz", retain="apart.npz", train="apart.npz?limit=4000", test="apart.npz?split=test")
_sgd, _both = dict(steps=150, batch_size=128), dict(steps=150, batch_size=64, augment="strong")
methods = {
    "_delete_": True,
    **{
        f"paper's {rate:g}": dict(type="DELETE", preset="paper", augment="strong", lr=rate, **_sgd)
        for rate in (1e-4, 5e-4, 2e-3)
    },
    **{f"TREW {rate:g}": dict(type="TREW", lr=rate) for rate in (1e-4, 3e-4)},
    **{f"SCRUB {rate:g}": dict(type="SCRUB", lr=rate, **_both) for rate in (5e-5, 1e-4, 2e-4)},
    **{f"SalUn {rate:g}": dict(type="SalUn", lr=rate, **_both) for rate in (1e-3, 4e-3, 1.3e-2)},
}
