# The same with the package's default rate and few steps: what `--preset quick` does to any config.
_base_ = ["./cgnet_camvid_forget-car.py"]

unlearn = dict(
    steps=100,
    schedule="constant",
    optimizer=dict(type="AdamW", lr=1e-4),
    readout=0.0,
)
