# CGNet on Cityscapes forgets "car". Everything above the last lines is an ordinary training config.
_base_ = ["./_base_/cgnet_cityscapes.py"]

custom_imports = dict(imports=["delete_mmseg"], allow_failed_imports=False)
runner_type = "UnlearnRunner"
load_from = "{{$DELETE_TASKS_SHARED:../shared}}/weights/cgnet_cityscapes19_mmseg.pth"
# What eight images seldom show is lost first, so rare classes count more, and a long schedule gives back what the first steps
# took; docs/notes/segmentation.md says how all was chosen.
unlearn = dict(
    type="DELETE",
    classes=["car"],
    balance=0.5,
    steps=300,
    schedule="cosine",
    optimizer=dict(type="AdamW", lr=1e-4),
)
