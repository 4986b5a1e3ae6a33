# ResNet-18 with a BadNets patch (target airplane).
_base_ = ["./_base_/with_retain_set.py"]

spec = dict(
    architecture="resnet18",
    arguments=dict(stem="cifar"),
    preprocessing=dict(mean=[0.4914, 0.4822, 0.4465], std=[0.2470, 0.2435, 0.2616]),
)
model = dict(spec=spec)
load_from = "{{$DELETE_TASKS_SHARED:../shared}}/weights/cifar10_resnet18_badnets.pt"
# At a rate of 1e-3 this network, dozens of times as large as the others, collapses within 20 steps. This is what the command
# takes for its size; a tenth of the usual steps keeps it within 15 minutes on two cores.
unlearn = dict(classes=["airplane"], steps=450, optimizer=dict(lr=1.1e-4))
train_dataloader = dict(
    dataset=dict(
        poisoned="cifar10:{{$DELETE_TASKS_SHARED:../shared}}/data/cifar10?without=airplane&limit=500&seed=1",
        trigger="badnets:size=3,pos=28,28",
        target="airplane",
        spec=spec,
        original=load_from,
    ),
)
