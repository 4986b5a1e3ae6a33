"""Config of a run of ``backdoor clean``, from a file or a command line."""

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config
from rich.console import Console

from delete_images.models.model_file import as_spec
from delete_images.run_config import begin_config, count, state_in, unlearn_options
from delete_tasks.errors import RequestError
from delete_tasks.methods.delete import DELETE
from delete_tasks.request.classes import resolve_classes
from delete_tasks.request.config import set_run

from . import register  # noqa: F401
from .checks import guess_target
from .datasets import load_original
from .ranking import open_samples
from .recipes import RECIPES, STRICT, WITH_RETAIN_SET

DATASET_OPTIONS = ("trigger_patches", *STRICT["dataset"])
UNLEARN_OPTIONS = ("teacher_temperature", *WITH_RETAIN_SET["unlearn"])


def make_config(config: str | None, options: Mapping[str, Any], console: Console) -> Config:
    """Make the config of a run from the command line: a file's, or one made from a model folder, with its changes. Options that
    are None leave the config's value, or the recipe's. A guessed target is printed; one that the model lacks is refused."""
    cfg = begin_config(config, options, "Backdoor")
    data = cfg.train_dataloader.dataset
    data.original = cfg.load_from
    data.allow_import = bool(options["allow_import"])
    names = ("poisoned", "retain", "seed", *DATASET_OPTIONS)
    data.update({name: options[name] for name in names if options.get(name) is not None})
    if options["poisoned"] is not None:
        data.pop("trigger", None)  # the config's, for its own clean images
    data.force = bool(options["force"]) or data.get("force", False)
    data.target = _target(cfg, options["target"], console)
    beside = bool(data.get("retain"))
    recipe = WITH_RETAIN_SET if beside else STRICT
    for name, value in recipe["dataset"].items():
        data.setdefault(name, value)

    unlearn = dict(cfg.get("unlearn") or {})
    if (method := unlearn.get("type", "DELETE")) != "DELETE":
        raise RequestError(
            f"backdoor clean erases by DELETE, and unlearn.type of '{config}' is {method!r}; leave it out"
        )
    named = {name: options[name] for name in UNLEARN_OPTIONS if options.get(name) is not None}
    defaults = DELETE.defaults(RECIPES, parameters=count(state_in(cfg.load_from)) if beside else 0, beside=beside)
    if "lr" in unlearn.get("optimizer", {}):
        defaults.pop("lr")
    cfg.unlearn = unlearn_options([data.target], "DELETE", {**defaults, **unlearn, **named, "classes": None})
    hooks = list(cfg.get("custom_hooks") or ())
    if not any(hook.get("type") == "BackdoorWatch" for hook in hooks):
        hooks += copy.deepcopy(recipe["hooks"])
    for hook in hooks:
        if hook.get("type") == "BackdoorWatch":
            hook["force"] = data.force
    cfg.custom_hooks = hooks
    set_run(cfg, options)
    return cfg


def _target(cfg: Config, wanted: str | int | None, console: Console) -> str:
    """Return the name of the target: the ``wanted`` one, the config's, or a guess, which is printed."""
    data, spec = cfg.train_dataloader.dataset, as_spec(cfg.train_dataloader.dataset.spec)
    target = data.get("target") if wanted is None else wanted
    if target is not None:
        (label,) = resolve_classes([target], spec.classes)
        return spec.classes[label]
    network = load_original(spec, cfg.load_from, data.get("allow_import", False))
    name, counts = guess_target(network, spec, open_samples(data.poisoned, spec.classes, "poisoned"))
    console.print(
        f"No --target given: taking '{name}', which the model predicts for {counts[name]} of {sum(counts.values())} poisoned "
        "samples."
    )
    return name
