# The same on CamVid's training images alone, for choosing options: unlearned on two of their sequences, measured on the
# third (0001TP, 62 images). Test images are for the figures of what was chosen.
_base_ = ["./cgnet_camvid_forget-car.py"]

train_dataloader = dict(dataset=dict(indices=list(range(62, 367))))
test_dataloader = dict(
    dataset=dict(data_prefix=dict(img_path="images/train", seg_map_path="labels/train"), indices=list(range(62)))
)
val_dataloader = test_dataloader
