"""Statement of what a run has done, compared with the tensors, and the same in words."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.nn.modules.batchnorm import _NormBase

from ..evaluation.forget_data import FORGET_SET
from ..fileio.atomic import save_json
from ..fileio.digests import describe_model
from ..fileio.environment import plain
from ..model.facts import REPLACED, Facts, digests, layers_of
from ..request.config_checks import parameters

ACCOUNT = "run.json"
OF_OUTCOME = ("done", "seconds", "forget_check", "finished", "withheld")  # parts of the account
OF_SELECTION = ("forget_set", "retain_set", "public_data")
UNKNOWN, REMOVED = "not attributed", "class weights removed"
NAMED = 3  # layers that a sentence names
NO_USE = "read without weight in the loss"
DRAWN = ("retain set", "public data", "trigger-free views of the poisoned samples")
# Use of the data that a change rests on.
USES = {
    "projection": "directions computed from",
    "others restored": "matrix fitted to",
    "training": "trained on",
    "scale restored": "scale fitted on",
}
PLURAL = {"person": "people", "class": "classes"}


def statement(runner: Any) -> dict[str, Any]:
    """State what a finished run did: ``done`` of results.json and of the record, see docs/reference/results.md. A layer is named
    if its tensors differ between original and published model, with the noted causes, or else as 'not attributed'."""
    task, method, facts, selection = runner.task, runner.method, runner.outcome.facts, runner.selection
    withheld = runner.outcome.withheld is not None
    ids = () if withheld else selection.forget_ids  # class weights are removed from a file
    network = task.published(runner.unwrapped_model)
    smaller = task.published(runner.unwrapped_model, ids)
    original, final = digests(task.published(runner.teacher)), digests(network)
    published = final if smaller is network else digests(smaller)
    changes, attributed = [*facts.changes], {name for change in facts.changes for name in change["tensors"]}
    removed = [name for name, digest in published.items() if digest != final[name]]
    changes.append({"by": REMOVED, "tensors": removed, "classes": len(ids)})
    differing = [name for name, digest in published.items() if digest != original[name]]
    loose = {name for name in differing if name not in {*attributed, *removed} or facts.latest[name] != final[name]}
    changes.append({"by": UNKNOWN, "tensors": [name for name in differing if name in loose]})
    named = []
    for change in map(dict, changes):
        layers = layers_of(name for name in change.pop("tensors") if name in differing)
        named.append({"by": change["by"], "layers": layers, **change})
    steps = runner.iter // runner.accumulation
    return plain(
        {
            "method": type(method).__name__,
            "forgets": {"noun": task.forgets, "count": len(selection.forget_ids), "samples": task.samples},
            "selected_by": method.request.select,
            "steps": steps - method.idle,
            "steps_without_training": method.idle,
            "most_steps": runner.recipe.steps,
            "why_it_ended": facts.ended or f"all {runner.recipe.steps} steps were taken",
            "resumed": runner.resumed_from is not None,
            "withheld": withheld,
            "data": [*facts.uses, *_read_in_steps(runner)],
            "changes": [change for change in named if change["layers"]],
            "unchanged": [layer for layer in layers_of(published) if layer not in set(layers_of(differing))],
        }
    )


def note_steps(runner: Any) -> None:
    """Note what the steps have changed, once after the last one."""
    method, recipe, facts = runner.method, runner.recipe, runner.outcome.facts
    own, steps = method.own_facts(facts), runner.iter // runner.accumulation - method.idle
    if steps:
        how: dict[str, Any] = {"steps": steps, "optimizer": dict(recipe.optimizer), "schedule": recipe.schedule}
        wrapper = runner.wrapper_config
        if "Amp" in str(wrapper.get("type")):
            how["precision"] = "bfloat16" if wrapper["type"].startswith("Cpu") else wrapper.get("dtype") or "float16"
        if method.stop_ratio is not None:
            how["stop"] = {"ratio": method.stop_ratio, "window": method.history.maxlen}
        facts.change("training", buffers=False, **how, **own)
    norms = [module for module in runner.unwrapped_model.modules() if isinstance(module, _NormBase)]
    facts.change("running statistics", norms, buffers=True)
    facts.change("other buffers", buffers=True)


def _read_in_steps(runner: Any) -> list[dict[str, Any]]:
    task, method, selection = runner.task, runner.method, runner.selection
    data, request = task.forget_data(selection.dataset), method.request
    reads = runner.iter * runner.train_dataloader.batch_size * runner.world_size
    own = request.masking == "own" or (request.locations == "forgotten" and request.select == "labels")
    facts = Facts()
    if reads:
        labels = method.forget_use != NO_USE and (method.needs_labels or own)
        classes = len(selection.forget_ids) if task.forgets in PLURAL else None
        facts.read(data.forget_name, method.forget_use, selection.forget_set["read"], reads, classes, labels)
    for name, chosen in ((data.retain_name, selection.retain_set), ("public data", selection.public_data)):
        if chosen is not None and reads * data.retain_each:
            facts.read(name, method.retain_use, chosen["read"], reads * data.retain_each, labels=method.retain_labels)
    return facts.uses


def account_of(runner: Any) -> dict[str, Any]:
    """Collect what results.json says of a finished run, whatever is measured after it, with its final options."""
    method, recipe, steps = runner.method, runner.recipe, runner.iter // runner.accumulation
    options = set(parameters(type(method)))
    as_run = {
        "type": type(method).__name__,
        **{key: value for key, value in runner.method_config.items() if key != "type"},
        **{key: value for key, value in vars(method).items() if key in options},
        **vars(recipe),
        "classes": [runner.selection.class_names[i] for i in runner.selection.forget_ids],
        "batch_size": recipe.batch_size or getattr(runner.train_dataloader, "batch_size", None),
        "accumulation": runner.accumulation,
        "steps_done": steps,
        "seed": runner.seed,
        **{name: value for hook in runner.hooks for name, value in getattr(hook, "begins_with", {}).items()},
    }
    return {
        "recipe": plain(as_run),
        "steps": steps,
        **{name: getattr(runner.outcome, name) for name in OF_OUTCOME},
        **{name: getattr(runner.selection, name) for name in OF_SELECTION},
    }


def save_account(runner: Any) -> None:
    """Write run.json for ``evaluate``: the account, the names of samples that were read, and the models with their digests."""
    folder, paths = Path(runner.work_dir), {"original": runner.teacher_path, "erased": runner.outcome.published}
    models = {role: describe_model(path, folder) for role, path in paths.items()}
    content = {"models": models, "results": account_of(runner), "samples": list(runner.selection.sample_names)}
    save_json(plain(content), folder / ACCOUNT)


# In words ----------------------------------------------------------------------------------------------------------


def sentences(done: Mapping[str, Any] | None) -> list[str]:
    """Write ``done`` in plain English, without names of classes or people."""
    if done is None:
        return ["Not known: another program made the erased model, or what its run wrote is not beside it."]
    lines = [_sentence(change, done) for change in done["changes"]]
    used = {USES.get(change["by"]) for change in done["changes"]}
    others = [each for each in done["data"] if each["use"] not in used]
    lines += [f"Also: {_samples(each, done['forgets'])}, {each['use']}." for each in others]
    idle, early = done["steps_without_training"], done["why_it_ended"]
    if idle:
        lines.append(f"{_count(idle, 'step')} only read {'their batches' if idle > 1 else 'its batch'}.")
    if done["steps"] + idle >= done["most_steps"]:
        early = ""
    if not done["steps"]:
        lines.append(f"No training step was taken{': ' if early else ''}{early}.")
    elif early:
        lines.append(f"The run ended early: {early}.")
    if done["withheld"]:
        lines.append("The changed model was not written.")
    if done["resumed"]:
        lines.append("The run was resumed from a saved state.")
    if not done["changes"]:
        return [*lines, "No tensor of the model differs from the original's."]
    rest = len(done["unchanged"])
    unchanged = {0: "No layer is", 1: "The other layer is"}.get(rest, f"{rest} other layers are")
    return [*lines, f"{unchanged} bitwise the original's."]


def _sentence(change: Mapping[str, Any], done: Mapping[str, Any]) -> str:
    by, names, forgets = change["by"], change["layers"], done["forgets"]
    noun, count = forgets["noun"], forgets["count"]
    data = " and ".join(_samples(each, forgets) for each in done["data"] if each["use"] == USES.get(by))
    layers = ", ".join(f"`{name}`" for name in names) if len(names) <= NAMED else f"{len(names):,} layers"
    owner = f"the forgotten {noun}" if count == 1 else f"the {count:,} forgotten {PLURAL.get(noun, noun)}"
    if by == "training":
        optimizer = change["optimizer"]
        steps = _count(change["steps"], "training step")
        share = f" {100 * change['share_of_weights']:.0f}% of the weights in" if "share_of_weights" in change else ""
        rate = f"{optimizer.get('type')}, learning rate {optimizer.get('lr')}, {change['schedule']}"
        rate += f", forward passes in {change['precision']}" if "precision" in change else ""
        again = "".join(
            f" At step {restart['step']:,} the model agreed with only {restart['agreement']}% of the original's predictions of "
            f"other classes, so the weights were set back and the rate lowered to {restart['rate']:.2g}."
            for restart in change.get("restarts", ())
        )
        if "step_back" in change:
            again += f" After the last step, {change['step_back']:.0%} of the change was taken back."
        return f"{steps} ({rate}){f' on {data}' if data else ''} changed{share} {layers}.{again}"
    computed = f", computed from {data}," if data else ""
    if by == "projection":
        further = f" A share was left along {change['faded']} further directions." if change.get("faded") else ""
        return f"{_count(change['directions'], 'direction')}{computed} were projected out of {layers}.{further}"
    if by == "others restored":
        weights = [f"the class weights of each {noun} who stays"] * change["by_head"]
        fitted = " and ".join([*filter(None, [data]), *weights])
        return f"Embeddings were multiplied, in {layers}, by a matrix fitted to {fitted}, which brings those of others back."
    if by == "other class weights returned":
        return f"Class weights of the other {PLURAL[noun]} in {layers} were set back to the original's."
    if by == REPLACED:
        others = " Those of the others were centred, which changes no probability." if change["others_centred"] else ""
        return f"Class weights of {owner} were replaced in {layers}.{others}"
    if by == REMOVED:
        return f"Class weights of {owner} were removed from {layers}."
    if by == "biases replaced":
        return f"Biases of {owner} in {layers} became the mean of the others'."
    if by == "scale restored":
        fitted = f"Class weights in {layers} were multiplied by {change['factor']:.3g}, fitted on {data}"
        return f"{fitted}, to restore the original's scale of the logits."
    if by == "running statistics":
        return f"The running statistics of {layers} were updated on the batches of the steps."
    return f"{by[0].upper()}{by[1:]}: {layers}."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def _samples(entry: Mapping[str, Any], forgets: Mapping[str, Any]) -> str:
    samples, reads, classes = f"{entry['samples']:,}", entry["reads"], ""
    if entry["set"] in DRAWN and reads is not None:
        samples = f"random draws from {samples}"
    elif reads is not None and reads < entry["samples"]:
        samples = f"{reads:,} of {samples}"
    if entry["classes"] is not None:
        noun = forgets["noun"]
        classes = f" of {entry['classes']:,} {noun if entry['classes'] == 1 else PLURAL[noun]}"
    of = "" if entry["set"] == FORGET_SET else f" ({entry['set']})"
    return f"{samples} {entry.get('noun', forgets['samples'])}{classes}{of}"
