# The recipe with a retain set (delete_backdoor.recipes.WITH_RETAIN_SET) as a config, and CIFAR-10 as small networks take it.
# Weights and data are looked for in ../shared, seen from the repository's root; another place: DELETE_TASKS_SHARED=/elsewhere.
default_scope = "mmengine"
custom_imports = dict(imports=["delete_backdoor.register"], allow_failed_imports=False)
runner_type = "UnlearnRunner"
train_dataloader = dict(
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    collate_fn=dict(type="collate_images"),
    dataset=dict(
        type="BackdoorDataset",
        retain="cifar10:{{$DELETE_TASKS_SHARED:../shared}}/data/cifar10?limit=500&seed=2",
        retain_each=11,
        mix=1.0,
        held=0.2,
        augment_poisoned=False,
    ),
)
unlearn = dict(
    type="DELETE",
    steps=200,
    batch_size=10,
    norm_eval=True,
    forgetting_only=True,
    temperature=4.0,
    optimizer=dict(type="AdamW", lr=1e-3),
    schedule="cosine",
    checkpoint_interval=100,
)
custom_hooks = [dict(type="BackdoorWatch", interval=20, agreement=90.0, target_kept=60.0)]
log_processor = dict(by_epoch=False)
