# CGNet on CamVid forgets "car". Everything above the last four lines is the training config it was made with.
_base_ = ["./_base_/cgnet_camvid.py"]

custom_imports = dict(imports=["delete_mmseg"], allow_failed_imports=False)
runner_type = "UnlearnRunner"
load_from = "{{$DELETE_TASKS_SHARED:../shared}}/weights/cgnet_camvid11_mmseg.pth"
unlearn = dict(type="DELETE", classes=["car"])
