# The recipe (delete_backdoor.recipes.CLEANING) as a config, with a retain set, and CIFAR-10 as small networks take it.
# Weights and data are looked for in ../shared, seen from the repository's root; another place: DELETE_TASKS_SHARED=/elsewhere.
default_scope = "mmengine"
custom_imports = dict(imports=["delete_backdoor.register"], allow_failed_imports=False)
runner_type = "UnlearnRunner"
# A config adds the architecture, and what differs.
spec = dict(
    arguments=dict(),
    classes=["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    preprocessing=dict(size=[32, 32], mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0], channels="RGB", input_range=[0, 1]),
)
model = dict(type="BackdoorClassifier", spec=spec)
train_dataloader = dict(
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    collate_fn=dict(type="collate_images"),
    dataset=dict(
        type="BackdoorDataset",
        spec=spec,
        retain="cifar10:{{$DELETE_TASKS_SHARED:../shared}}/data/cifar10?limit=500&seed=2",
        retain_each=11,
        paste=0.45,
        mix=1.0,
        held=0.2,
        augment_poisoned=False,
    ),
)
unlearn = dict(
    type="DELETE",
    steps=4800,
    batch_size=1,
    norm_eval=True,
    forgetting_only=True,
    temperature=2.0,
    feature_distillation=3.0,
    optimizer=dict(type="AdamW", lr=2e-3),
    schedule="cosine",
    checkpoint_interval=100,
)
custom_hooks = [dict(type="BackdoorWatch", interval=240, agreement=90.0, target_kept=60.0, restart=85.0)]
log_processor = dict(by_epoch=False)
