"""The rows of deer.py at one budget: 19,200 samples and strong views for each method, one network (20 minutes of a core).

Rates that are no method's own were chosen on images set apart, by deer_budget_rates.py.
"""

_base_ = ["./deer.py"]
networks = dict(
    _delete_=True,
    **{"ResNet-20, seed 0": dict(original="references/all_seed0", retrained="references/without_{classes}_seed0")},
)
methods = {
    "last layer alone": dict(steps=300, batch_size=64, augment="strong"),
    "the paper's loop": dict(steps=150, augment="strong", lr=2e-3),
    "DeepDELETE (default)": dict(steps=300),
    "DeepDELETE, public": dict(steps=150),
    "SCRUB": dict(steps=150, augment="strong"),
    "SalUn": dict(steps=150, augment="strong", lr=1.3e-2),
}
