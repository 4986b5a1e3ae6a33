# A ResNet-18 with a CIFAR stem on CIFAR-10. The weights and data are looked for in ../shared, seen from the repository's
# root; another place: DELETE_TASKS_SHARED=/elsewhere (the folder that holds data/cifar10 and weights).
default_scope = "mmengine"
spec = dict(
    architecture="resnet18",
    arguments=dict(stem="cifar"),
    classes=["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    preprocessing=dict(
        size=[32, 32],
        mean=[0.4914, 0.4822, 0.4465],
        std=[0.2470, 0.2435, 0.2616],
        channels="RGB",
        input_range=[0, 1],
    ),
)
model = dict(type="ImageClassifier", spec=spec)
train_dataloader = dict(
    batch_size=128,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    collate_fn=dict(type="collate_images"),
    dataset=dict(type="ImageDataset", data="cifar10:{{$DELETE_TASKS_SHARED:../shared}}/data/cifar10", spec=spec),
)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1, momentum=0.9, weight_decay=5e-4))
train_cfg = dict(type="IterBasedTrainLoop", max_iters=12000, val_interval=10**9)
log_processor = dict(by_epoch=False)
