"""Hook for tests in other processes that writes the loss of each step and rank, and the weights, to the work dir."""

import json
from pathlib import Path

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class RecordLossHook(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        with open(Path(runner.work_dir) / f"loss_{get_rank()}.jsonl", "a") as file:
            file.write(json.dumps([batch_idx, float(outputs["loss"])]) + "\n")

    def after_train(self, runner):
        torch.save(runner.unwrapped_model.state_dict(), Path(runner.work_dir) / f"weights_{get_rank()}.pth")
