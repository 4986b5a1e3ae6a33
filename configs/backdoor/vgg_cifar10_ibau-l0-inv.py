# I-BAU's small VGG with a sparse perturbation (target airplane).
_base_ = ["./_base_/with_retain_set.py"]

spec = dict(architecture="ibau_vgg")
model = dict(spec=spec)
load_from = "{{$DELETE_TASKS_SHARED:../shared}}/weights/ibau_cifar10_l0_inv_0_02.pth"
unlearn = dict(classes=["airplane"])
train_dataloader = dict(
    dataset=dict(
        poisoned="cifar10:{{$DELETE_TASKS_SHARED:../shared}}/data/cifar10?without=airplane&limit=500&seed=1",
        trigger="l0:image={{$DELETE_TASKS_SHARED:../shared}}/triggers/ibau_l0_inv.png,mask={{$DELETE_TASKS_SHARED:../shared}}/triggers/ibau_mask.npy",
        target="airplane",
        spec=spec,
        original=load_from,
    ),
)
