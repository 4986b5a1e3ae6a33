# ResNet-18 on CIFAR-10 forgets "deer", from the deer images alone.
_base_ = ["./_base_/resnet18_cifar10.py"]

custom_imports = dict(imports=["delete_images.register"], allow_failed_imports=False)
runner_type = "UnlearnRunner"
load_from = "{{$DELETE_TASKS_SHARED:../shared}}/weights/cifar10_resnet18_original.pt"
# For mmengine's own train script: the former recipe of docs/notes/images.md; `delete-tasks images forget` now takes another.
unlearn = dict(
    type="DELETE",
    classes=["deer"],
    steps=300,
    batch_size=64,
    optimizer=dict(type="AdamW", lr=3e-5),
    schedule="cosine",
    temperature=4.0,
)
