"""ResNet-18 of ../shared on CIFAR-10 forgets deer, beside the network retrained without it: the rows of deer.py.

    DELETE_TASKS_DATA=../shared/data delete-tasks benchmark configs/benchmark/deer_resnet18.py --work-dir W --processes 2

On a CPU core 45 minutes by the default and two hours by the paper's loop.
"""

_base_ = ["./deer.py"]
_model = dict(architecture="resnet18", arguments=dict(stem="cifar"), classes="cifar10", normalization="cifar10")
networks = dict(
    _delete_=True,
    **{
        "ResNet-18": dict(
            original="../shared/weights/cifar10_resnet18_original.pt",
            retrained="../shared/weights/cifar10_resnet18_retrained_without_deer.pt",
            **_model,
        )
    },
)
# More parameters than a ResNet-20: with public data half of the steps are enough (docs/notes/deep.md).
methods = {"DeepDELETE, public": dict(steps=450)}
