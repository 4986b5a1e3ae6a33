# The same on the training images alone, for choosing options: unlearned on five of them, measured on the other three. Test
# images are for the figures of what was chosen.
_base_ = ["./cgnet_cityscapes_forget-car.py"]

train_dataloader = dict(dataset=dict(indices=list(range(5))))
test_dataloader = dict(
    dataset=dict(data_prefix=dict(img_path="leftImg8bit/train", seg_map_path="gtFine/train"), indices=[5, 6, 7])
)
val_dataloader = test_dataloader
