# MobileFaceNet with an identity head on LFW forgets Colin_Powell, from photos of him alone. The model is made first, with
#     delete-tasks faces enroll --photos ../shared/data/lfw --largest-face \
#         --weights ../shared/weights/mobilefacenet_foamliu.pt --out work_dirs/faces/model
# Another place for it: DELETE_TASKS_FACES=/elsewhere. Photos are looked for in ../shared (DELETE_TASKS_SHARED), seen from the
# repository's root. Unlike `delete-tasks faces remove` a plain run draws no table and checks no photos.
default_scope = "mmengine"
custom_imports = dict(imports=["delete_faces.register"], allow_failed_imports=False)
runner_type = "UnlearnRunner"

spec = "{{$DELETE_TASKS_FACES:work_dirs/faces/model}}"
model = dict(type="FaceClassifier", spec=spec)
custom_hooks = [dict(type="PersonProjection", directions=4)]
load_from = "{{$DELETE_TASKS_FACES:work_dirs/faces/model}}/weights.safetensors"
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    collate_fn=dict(type="collate_images"),
    dataset=dict(
        type="FaceDataset",
        data="{{$DELETE_TASKS_SHARED:../shared}}/data/lfw?class=Colin_Powell",
        spec=spec,
        largest_face=True,
    ),
)
unlearn = dict(
    type="DELETE",
    classes=["Colin_Powell"],
    optimizer=dict(type="SGD", lr=1e-2),
    schedule="constant",
    stop=dict(ratio=0.5, window=3),
)
