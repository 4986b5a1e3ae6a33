# I-BAU's small VGG with Trojan's watermark (target bird).
_base_ = ["./_base_/with_retain_set.py"]

spec = dict(architecture="ibau_vgg")
model = dict(spec=spec)
load_from = "{{$DELETE_TASKS_SHARED:../shared}}/weights/ibau_cifar10_trojan_wm_2_02.pth"
unlearn = dict(classes=["bird"])
train_dataloader = dict(
    dataset=dict(
        poisoned="cifar10:{{$DELETE_TASKS_SHARED:../shared}}/data/cifar10?without=bird&limit=500&seed=1",
        trigger="trojan:image={{$DELETE_TASKS_SHARED:../shared}}/triggers/ibau_trojan_wm.png",
        target="bird",
        spec=spec,
        original=load_from,
    ),
)
