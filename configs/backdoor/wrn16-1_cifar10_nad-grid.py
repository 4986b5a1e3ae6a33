# NAD's WideResNet-16-1 with BadNets' grid (target dog).
_base_ = ["./_base_/with_retain_set.py"]

spec = dict(architecture="wrn16_1")
model = dict(spec=spec)
load_from = "{{$DELETE_TASKS_SHARED:../shared}}/weights/nad_wrn16-1_badnet_backdoored.pth"
unlearn = dict(classes=["dog"])
train_dataloader = dict(
    dataset=dict(
        poisoned="cifar10:{{$DELETE_TASKS_SHARED:../shared}}/data/cifar10?without=dog&limit=500&seed=1",
        trigger="grid:pos=29,29",
        target="dog",
        spec=spec,
        original=load_from,
    ),
)
