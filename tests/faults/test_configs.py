"""Broken, empty and unsupported configs."""

import shutil
from pathlib import Path

import pytest
from harness import is_refused, no_traceback
from kit import without

pytestmark = pytest.mark.faults  # minutes; the tasks' own tests of the same run with all tests

CONFIGS = {  # content of a config file; {base} is a good one's path
    "empty": "", "white space": "\n\n  \n", "a comment": "# nothing\n", "a syntax error": "model = dict(\n",
    "an unknown name": "model = nothing\n",
    "an exception": "raise ValueError('boom')\n", "a division by zero": "1 / 0\n", "an exit": "raise SystemExit(3)\n",
    "an exit 0": "import sys; sys.exit()\n",
    "an import that fails": "import no_such_package_at_all\n", "a recursion": "def f(): return f()\nx = f()\n",
    "itself as base": "_base_ = ['./config.py']\n", "no such base": "_base_ = ['./nowhere.py']\n",
    "a folder as base": "_base_ = ['..']\n",
    "a number as base": "_base_ = 3\n", "tabs and spaces": "if True:\n\tx = 1\n        y = 2\n", "a null character": "x = 1\0\n",
    "a lone surrogate": "x = '\\ud800'\n", "a module": "import os\nmodel = os\n",
    "a lambda": "_base_ = [{base!r}]\nmodel = lambda: 1\n",
    "unlearn of text": "_base_ = [{base!r}]\nunlearn = 'DELETE'\n",
    "unlearn of a list": "_base_ = [{base!r}]\nunlearn = ['car']\n",
    "unlearn of a number": "_base_ = [{base!r}]\nunlearn = 3\n",
    "an unknown option": "_base_ = [{base!r}]\nunlearn = dict(speed=3)\n",
    "an unknown method": "_base_ = [{base!r}]\nunlearn = dict(type='Forget')\n",
    "a method that is a hook": "_base_ = [{base!r}]\nunlearn = dict(type='LoggerHook')\n",
    "steps of text": "_base_ = [{base!r}]\nunlearn = dict(steps='many')\n",
    "negative interval": "_base_ = [{base!r}]\nunlearn = dict(checkpoint_interval=-1)\n",
    "an optimizer of text": "_base_ = [{base!r}]\nunlearn = dict(optimizer='SGD')\n",
    "no such optimizer": "_base_ = [{base!r}]\nunlearn = dict(optimizer=dict(_delete_=True, type='Best', lr=1e-3))\n",
    "an unknown schedule": "_base_ = [{base!r}]\nunlearn = dict(schedule='fast')\n",
    "an unknown masking": "_base_ = [{base!r}]\nunlearn = dict(masking='none')\n",
    "EMAHook": "_base_ = [{base!r}]\ncustom_hooks = [dict(type='EMAHook')]\n",
    "a subclass of EMAHook": "_base_ = [{base!r}]\nfrom mmengine.hooks import EMAHook\nfrom mmengine.registry import HOOKS\n"
                             "class Mine(EMAHook): pass\n"
                             "HOOKS.register_module(name='Mine', module=Mine, force=True)\n"
                             "del EMAHook, HOOKS, Mine\ncustom_hooks = [dict(type='Mine')]\n",
    "save_best": "_base_ = [{base!r}]\ndefault_hooks = dict(checkpoint=dict(type='CheckpointHook', save_best='auto'))\n",
    "no such hook": "_base_ = [{base!r}]\ncustom_hooks = [dict(type='NoHook')]\n",
    "hooks of text": "_base_ = [{base!r}]\ncustom_hooks = 'EMAHook'\n",
    "no data": "_base_ = [{base!r}]\ntrain_dataloader = None\n",
    "data of text": "_base_ = [{base!r}]\ntrain_dataloader = 'photos'\n",
    "no such dataset": "_base_ = [{base!r}]\ntrain_dataloader = dict(dataset=dict(_delete_=True, type='NoData'))\n",
    "negative workers": "_base_ = [{base!r}]\ntrain_dataloader = dict(num_workers=-1)\n",
    "a negative seed": "_base_ = [{base!r}]\nrandomness = dict(seed=-1)\n",
    "a seed of text": "_base_ = [{base!r}]\nrandomness = dict(seed='x')\n",
    "a log level that is none": "_base_ = [{base!r}]\nlog_level = 'LOUD'\n",
}  # fmt: skip
OF_SEGMENTATION = {
    "no model": "_base_ = [{base!r}]\nmodel = None\n",
    "no such model": "_base_ = [{base!r}]\nmodel = dict(_delete_=True, type='NoModel')\n",
    "no such transform": "_base_ = [{base!r}]\ntrain_dataloader = dict(dataset=dict(pipeline=[dict(type='No')]))\n",
    "no pictures": "_base_ = [{base!r}]\ntrain_dataloader = dict(dataset=dict(data_root='nowhere'))\n",
    "no test pictures": "_base_ = [{base!r}]\ntest_dataloader = dict(dataset=dict(data_root='nowhere'))\n",
    "another number of classes": "_base_ = [{base!r}]\nmodel = dict(decode_head=dict(num_classes=7))\n",
    "one class": "_base_ = [{base!r}]\nmodel = dict(decode_head=dict(num_classes=1))\n",
    "an empty pipeline": "_base_ = [{base!r}]\ntrain_dataloader = dict(dataset=dict(pipeline=[]))\n",
    "accumulation of zero": "_base_ = [{base!r}]\noptim_wrapper = dict(accumulative_counts=0)\n",
    "accumulation of text": "_base_ = [{base!r}]\noptim_wrapper = dict(accumulative_counts='two')\n",
}  # fmt: skip
BASES = {"segmentation": "seg/config.py", "backdoor": "backdoor/config.py", "images": "images.py"}


def argv_with(kit, here, task: str, config: str) -> list[str]:
    """Return the kit's words without those that override the config."""
    words = kit.argv(task, "W", "--no-record", *(["--config", config] if task != "segmentation" else []))
    for option in ("--steps", "--lr", "--batch-size", *(["--cfg-options"] if task == "images" else [])):
        without(words, option)
    if task == "segmentation":
        words[1] = config
    return words


ROWS = [*((task, name) for task in BASES for name in CONFIGS), *(("segmentation", name) for name in OF_SEGMENTATION)]


@pytest.mark.parametrize(("task", "name"), ROWS)
def test_broken_configs(server, here, kit, task, name):
    base = kit.path(BASES[task])
    if task == "images":
        base = str(here.root / "base.py")
        Path(base).write_text(
            "default_scope = 'mmengine'\nlog_level = 'WARNING'\n"
            "train_dataloader = dict(num_workers=0, sampler=dict(type='InfiniteSampler'),"
            " collate_fn=dict(type='collate_images'), dataset=dict(type='ImageDataset'))\n"
            "unlearn = dict(type='DELETE', steps=2)\n"
        )
    if task == "backdoor":
        shutil.copy(base, here.root / "base.py")
        base = str(here.root / "base.py")
        Path(base).write_text(Path(base).read_text() + "unlearn.update(steps=2)\n")
    config = here.root / "config.py"
    content = (CONFIGS | OF_SEGMENTATION)[name]
    config.write_bytes(content.replace("{base!r}", repr(base)).encode("utf-8", "surrogatepass"))
    before = here.look()
    is_refused(server.run(argv_with(kit, here, task, str(config)), here), here, before)


OPTIONS = ["x", "=", "=1", "unlearn", "unlearn.steps", "unlearn=3", "model.a.b.c.d=1", "train_dataloader.dataset=3",
           "a=[", "a=(1", "a={", "unlearn.type=[1]", "unlearn.stop={'a':1}", "unlearn.optimizer.type=No",
           "train_dataloader.dataset.type=No", "unlearn.steps=[1,2]", "unlearn.classes=7", "unlearn.norm_eval=maybe",
           "work_dir=/", "load_from=nowhere.pth", "resume=maybe", "default_scope=nowhere"]  # fmt: skip


@pytest.mark.parametrize(("option", "task"), [(o, t) for o in OPTIONS for t in ("images", "segmentation")])
def test_cfg_options(server, here, kit, option, task):
    """They are refused, or the command's own options override them."""
    before = here.look()
    argv = kit.argv(task, "W", "--no-record")
    argv = [*argv[: argv.index("--cfg-options")], *argv[argv.index("--device") :]] if "--cfg-options" in argv else argv
    done = server.run([*argv, "--cfg-options", option], here)
    no_traceback(done)
    if done.code != 0:
        is_refused(done, here, before)
    else:
        assert option.split("=")[0] in ("unlearn.classes", "work_dir", "load_from", "resume", "model.a.b.c.d",
        "default_scope", "a", "unlearn.steps", "unlearn.type",
                                        "unlearn", "train_dataloader.dataset.type",
                                        "unlearn.norm_eval") or task == "segmentation", f"{done}"  # fmt: skip
        assert {path.name for path in here.cwd.iterdir()} == {"W"}
