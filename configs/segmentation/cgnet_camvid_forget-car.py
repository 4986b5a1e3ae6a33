# CGNet on CamVid forgets "car". Everything above the last lines is the training config it was made with.
_base_ = ["./_base_/cgnet_camvid.py"]

custom_imports = dict(imports=["delete_mmseg"], allow_failed_imports=False)
runner_type = "UnlearnRunner"
load_from = "{{$DELETE_TASKS_SHARED:../shared}}/weights/cgnet_camvid11_mmseg.pth"
# A small network bears a higher rate than the default, 1e-4, and longer; docs/notes/segmentation.md says how all was chosen.
unlearn = dict(
    type="DELETE",
    classes=["car"],
    steps=400,
    schedule="cosine",
    optimizer=dict(type="AdamW", lr=3e-4),
    readout=0.01,
)
