# CGNet (M3N21) as MMSegmentation trains it: the model, but for classes and input, and the schedule.
_base_ = ["./default_runtime.py"]

norm_cfg = dict(type="SyncBN", eps=1e-03, requires_grad=True)
data_preprocessor = dict(
    type="SegDataPreProcessor",
    std=[1, 1, 1],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
)
model = dict(
    type="EncoderDecoder",
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type="CGNet",
        norm_cfg=norm_cfg,
        in_channels=3,
        num_channels=(32, 64, 128),
        num_blocks=(3, 21),
        dilations=(2, 4),
        reductions=(8, 16),
    ),
    decode_head=dict(
        type="FCNHead",
        in_channels=256,
        in_index=2,
        channels=256,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0,
        norm_cfg=norm_cfg,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(sampler=None),
    test_cfg=dict(mode="whole"),
)

# schedule, as in MMSegmentation's own CGNet configs
optimizer = dict(type="Adam", lr=0.001, eps=1e-08, weight_decay=0.0005)
optim_wrapper = dict(type="OptimWrapper", optimizer=optimizer)
param_scheduler = [dict(type="PolyLR", eta_min=1e-4, power=0.9, by_epoch=False, begin=0, end=60000)]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=60000, val_interval=4000)
default_hooks = dict(checkpoint=dict(interval=4000))
