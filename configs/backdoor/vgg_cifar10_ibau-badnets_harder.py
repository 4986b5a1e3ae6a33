# As vgg_cifar10_ibau-badnets.py with more poisoned samples a step, twice the steps and a higher temperature: fewer triggered
# images stay at the target than go there without the trigger, and the target class loses accuracy (docs/notes/backdoor.md).
_base_ = ["./vgg_cifar10_ibau-badnets.py"]

unlearn = dict(steps=400, batch_size=20, temperature=8.0)
train_dataloader = dict(dataset=dict(retain_each=5))
