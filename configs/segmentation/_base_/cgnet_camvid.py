# An ordinary training config: CGNet (M3N21) on CamVid, 11 classes, 480x360. Nothing of unlearning is in it.
#
# The data are looked for in ../shared/data/camvid, seen from the repository's root; another place:
# DELETE_TASKS_SHARED=/elsewhere (the folder that holds data/camvid), or, for one loader,
# --cfg-options train_dataloader.dataset.data_root=... (data_root itself is only a name in this file).
_base_ = ["./default_runtime.py"]
custom_imports = dict(imports=["delete_mmseg.datasets"], allow_failed_imports=False)

# model
norm_cfg = dict(type="SyncBN", eps=1e-03, requires_grad=True)
data_preprocessor = dict(
    type="SegDataPreProcessor",
    mean=[110.08, 108.23, 105.03],
    std=[1, 1, 1],
    bgr_to_rgb=True,
    size=(360, 480),
    pad_val=0,
    seg_pad_val=255,
)
model = dict(
    type="EncoderDecoder",
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type="CGNet",
        norm_cfg=norm_cfg,
        in_channels=3,
        num_channels=(32, 64, 128),
        num_blocks=(3, 21),
        dilations=(2, 4),
        reductions=(8, 16),
    ),
    decode_head=dict(
        type="FCNHead",
        in_channels=256,
        in_index=2,
        channels=256,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0,
        num_classes=11,
        norm_cfg=norm_cfg,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(sampler=None),
    test_cfg=dict(mode="whole"),
)

# data
dataset_type = "CamVidDataset"
data_root = "{{$DELETE_TASKS_SHARED:../shared}}/data/camvid"
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations"), dict(type="PackSegInputs")]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path="images/train", seg_map_path="labels/train"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=dict(img_path="images/test", seg_map_path="labels/test"),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator

# schedule, as in MMSegmentation's own CGNet configs
optimizer = dict(type="Adam", lr=0.001, eps=1e-08, weight_decay=0.0005)
optim_wrapper = dict(type="OptimWrapper", optimizer=optimizer)
param_scheduler = [dict(type="PolyLR", eta_min=1e-4, power=0.9, by_epoch=False, begin=0, end=60000)]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=60000, val_interval=4000)
default_hooks = dict(checkpoint=dict(interval=4000))
