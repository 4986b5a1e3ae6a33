# PSPNet (ResNet-50) trained on Cityscapes forgets "car". The weights are MMSegmentation's own; download
# pspnet_r50-d8_512x1024_80k_cityscapes_20200606_112131-2376f12b.pth from its model zoo (configs/pspnet/README.md
# there links it) into checkpoints/. The model and the schedule are written out here and in _base_: nothing else is fetched.
_base_ = ["./_base_/default_runtime.py", "./_base_/imagenet_segmentor.py", "./_base_/cityscapes_labelids.py"]

norm_cfg = dict(type="SyncBN", requires_grad=True)
data_preprocessor = dict(size=(512, 1024))
model = dict(
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type="ResNetV1c",
        depth=50,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        dilations=(1, 1, 2, 4),
        strides=(1, 2, 1, 1),
        norm_cfg=norm_cfg,
        norm_eval=False,
        style="pytorch",
        contract_dilation=True,
    ),
    decode_head=dict(
        type="PSPHead",
        in_channels=2048,
        in_index=3,
        channels=512,
        pool_scales=(1, 2, 3, 6),
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=1024,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=19,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=0.4),
    ),
)

# schedule: MMSegmentation's 80k iterations
optimizer = dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=0.0005)
optim_wrapper = dict(type="OptimWrapper", optimizer=optimizer, clip_grad=None)
param_scheduler = [dict(type="PolyLR", eta_min=1e-4, power=0.9, begin=0, end=80000, by_epoch=False)]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=80000, val_interval=8000)
default_hooks = dict(checkpoint=dict(interval=8000))

custom_imports = dict(imports=["delete_mmseg"], allow_failed_imports=False)
runner_type = "UnlearnRunner"
load_from = "checkpoints/pspnet_r50-d8_512x1024_80k_cityscapes_20200606_112131-2376f12b.pth"
unlearn = dict(type="DELETE", classes=["car"])
