# I-BAU's small VGG with a BadNets patch (target ship).
_base_ = ["./_base_/with_retain_set.py"]

spec = dict(architecture="ibau_vgg")
model = dict(spec=spec)
load_from = "{{$DELETE_TASKS_SHARED:../shared}}/weights/ibau_cifar10_badnets_8_02.pth"
unlearn = dict(classes=["ship"])
train_dataloader = dict(
    dataset=dict(
        poisoned="cifar10:{{$DELETE_TASKS_SHARED:../shared}}/data/cifar10?without=ship&limit=500&seed=1",
        trigger="badnets:size=4,pos=27,27",
        target="ship",
        spec=spec,
        original=load_from,
    ),
)
