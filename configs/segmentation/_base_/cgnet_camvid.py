# An ordinary training config: CGNet (M3N21) on CamVid, 11 classes, 480x360. Nothing of unlearning is in it.
#
# The data are looked for in ../shared/data/camvid, seen from the repository's root; another place:
# DELETE_TASKS_SHARED=/elsewhere (the folder that holds data/camvid), or, for one loader,
# --cfg-options train_dataloader.dataset.data_root=... (data_root itself is only a name in this file).
_base_ = ["./cgnet.py"]
custom_imports = dict(imports=["delete_mmseg.datasets"], allow_failed_imports=False)

# model
data_preprocessor = dict(mean=[110.08, 108.23, 105.03], size=(360, 480))
model = dict(data_preprocessor=data_preprocessor, decode_head=dict(num_classes=11))

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
