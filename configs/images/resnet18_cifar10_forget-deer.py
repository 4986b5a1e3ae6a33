# ResNet-18 on CIFAR-10 forgets "deer", from the deer images alone.
_base_ = ["./_base_/resnet18_cifar10.py"]

custom_imports = dict(imports=["delete_images.register"], allow_failed_imports=False)
runner_type = "UnlearnRunner"
load_from = "{{$DELETE_TASKS_SHARED:../shared}}/weights/cifar10_resnet18_original.pt"
unlearn = dict(type="DELETE", classes=["deer"], optimizer=dict(type="AdamW", lr=1e-3))
