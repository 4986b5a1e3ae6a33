# CGNet on Cityscapes forgets "car". Everything above the last lines is an ordinary training config.
_base_ = ["./_base_/cgnet_cityscapes.py"]

# Views in which the original sees more classes than in eight images as they are: half a street, a window, vehicles of other shapes.
size = (2048, 1024)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(
        type="RandomChoice",
        transforms=[
            [dict(type="RandomResize", scale=size, ratio_range=(0.5, 2.0), keep_ratio=True)],
            [dict(type="RandomResize", scale=size, ratio_range=(0.3, 0.5), keep_ratio=True)],
            [dict(type="RandomResize", scale=size, ratio_range=(2.0, 4.0), keep_ratio=True)],
            [dict(type="RandomResize", scale=[(1024, 512), (3072, 1536)], keep_ratio=False)],
        ],
        prob=[0.6, 0.15, 0.1, 0.15],
    ),
    dict(type="RandomCrop", crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

custom_imports = dict(imports=["delete_mmseg"], allow_failed_imports=False)
runner_type = "UnlearnRunner"
load_from = "{{$DELETE_TASKS_SHARED:../shared}}/weights/cgnet_cityscapes19_mmseg.pth"
# What eight images seldom show is lost first, so rare classes count more, and what lies near a car for the original is made out
# of cars; docs/notes/segmentation.md says how all was chosen.
unlearn = dict(
    type="DELETE",
    classes=["car"],
    fill="surroundings",
    balance=1.0,
    counterexamples=3,
    steps=100,
    schedule="cosine",
    optimizer=dict(type="SGD", lr=2e-4, momentum=0.9),
)
