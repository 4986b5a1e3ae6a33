"""ResNet-20 on CIFAR-10 forgets deer, three networks: the table of the README's first page (22 minutes of a core a network).

    delete-tasks benchmark configs/benchmark/deer.py --work-dir W --processes 2

Original and retrained networks are in the folder references. CIFAR-10 and CIFAR-100 are looked for in the folder that
DELETE_TASKS_DATA names. Each method has its own recipe, SCRUB and SalUn those of small_cifar10.py.
"""

task = "images"
networks = {
    f"ResNet-20, seed {seed}": dict(
        original=f"references/all_seed{seed}", retrained=f"references/without_{{classes}}_seed{seed}"
    )
    for seed in range(3)
}
data = dict(forget="cifar10", retain="cifar10", train="cifar10?limit=4000", test="cifar10?limit=5000")
classes = dict(deer=["deer"])
unlearn = dict(keep_row=True, match_scale=False)
methods = {
    # The forget set alone.
    "last layer alone": dict(type="HeadOnly"),
    "the paper's loop": dict(type="DELETE", preset="paper"),
    "DELETE": dict(type="DELETE"),
    "TREW": dict(type="TREW"),
    "DeepDELETE (default)": dict(type="DeepDELETE"),
    # With other images: unlabelled ones of other classes, or a retain set.
    "DeepDELETE, public": dict(type="DeepDELETE", public="cifar100"),
    "SCRUB": dict(type="SCRUB", lr=1e-4, steps=100, batch_size=64),
    "SalUn": dict(type="SalUn", lr=4e-3, steps=100, batch_size=64),
}
columns = [
    *("acc_ft", "acc_rt", "worst_drop", "linear_probe", "hidden_probe", "prototypes_5", "gap", "idi", "membership_auc"),
    *("seconds", "samples"),
]
