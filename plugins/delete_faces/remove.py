"""The command ``faces remove``: unlearn people, remove their class weights, measure before and after."""

import copy
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console

from delete_images.data.opening import ImageData, find_copies
from delete_images.models.model_file import WEIGHTS_NAME, ModelSpec
from delete_images.opened import opened_model, predict_images
from delete_images.rows import head_only
from delete_images.run_config import build_runner, method_class, release_runner, unlearn_options
from delete_tasks.display.terminal import short
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import Evaluation
from delete_tasks.evaluation.copies import Copies
from delete_tasks.evaluation.verification import matched_pairs
from delete_tasks.fileio.compute import choose_device, flush_subnormals
from delete_tasks.model.modes import fast_layout
from delete_tasks.report.finish import refuse_unmeasured, report
from delete_tasks.report.results import collect
from delete_tasks.request.classes import resolve_classes

from . import checks, register  # noqa: F401
from .datasets import FaceDataset, framing_for
from .enrolment import complete_options, divide, limit_photos, open_own, open_removed, open_tested, pass_on_enrolment
from .gallery.gallery import save_without
from .metrics import METRICS
from .network import CosineHead, FaceNetwork, load_face_network, without_classes
from .opened import CHANGED, MEASURED, PROJECTED, UNCHANGED, open_run
from .photos import Framing, Templates, frame_photos
from .picture import draw_people
from .projection import PersonProjection, changes_of, directions_for, fold_changes, predict, project_each
from .recipes import BASE, RECIPES
from .report import answer, describe_drift, describe_matches, lines_of, measure, rehearse
from .stores import is_store, open_others, open_templates, shown
from .task import FaceClassifier

MOST_HEAD = 2**24  # class weights of a head that is trained for the row head_only: 32,768 people of 512 each
DATA = ("model", "photos", "templates", "retain", "eval", "aligned", "largest_face")
CAPTION = "Held-out photos, and the people that the original and the erased model take them for."


def remove(options: Mapping[str, Any], console: Console) -> dict[str, Any]:
    """Make a model forget people; write erased/, results.json and before_after.png, after all refusals. ``options`` are the
    command's, ``record`` may hold the record's. Return the content of results.json, and the ``exit_status``."""
    flush_subnormals()
    network, spec = load_face_network(options)
    options = complete_options(options)
    ids = resolve_classes(options["person"], spec.classes)
    people = [spec.classes[i] for i in ids]  # as the model spells them
    if not options["keep_row"]:
        without_classes(network.head, ids)  # refuses what cannot be done before the photos are read
    size, templates = network.head.weight.shape[1], None
    if options.get("templates") is not None:
        checks.check_request(options)
        templates = open_templates(options["templates"], people, ids, size, options["allow_import"])
        options["templates"] = shown(options["templates"])
    lacking: Sequence[int] = () if templates is None else templates.lacking
    count = _directions(options, len(people) - len(lacking))
    if options.get("retain") is not None and not count:
        raise RequestError(checks.NO_PROJECTION)
    unlearn = _recipe(options, people, network, count)
    far = checks.read_far(options.get("threshold"), network.head)
    device = choose_device(options["device"])
    begin = time.monotonic()
    framing = framing_for(spec, options, device)
    forget, gallery, kept, copies, details = _read_photos(options, network.head, spec, ids, framing, console, templates)
    if far is not None:
        checks.check_far(far, gallery, ids)
    original: FaceNetwork = fast_layout(network.to(device))
    predictions = predict(original, spec, forget, "Checking photos")
    noun = "photos" if templates is None else "templates"
    warning = checks.check_looks(forget.names, predictions, original.head.weight.detach().cpu(), options["force"], noun)
    if warning is not None:
        console.print(f"Warning: {warning}")
    changes = None
    if predictions.features is not None or count:
        changes = changes_of(original, spec, forget, predictions, ids, count or directions_for(len(ids)), kept)
    if changes and count:
        # On a copy, so that an embedder that cannot be projected is refused before anything is written.
        fold_changes(copy.deepcopy(original.embedder).eval(), changes, (3, *spec.preprocessing.size))
    opened = open_run(original, spec, ids, options)
    opened.copies = copies
    unchanged = UNCHANGED.format(len(lacking), len(people))
    limits = {PROJECTED: changes and count, unchanged: lacking, CHANGED: kept is not None}
    opened.limits = [*opened.limits, *(limit for limit, holds in limits.items() if holds)]
    if kept is not None:
        opened.other_samples = {"retain set": list(kept.names)}
    if gallery is not None:
        rehearse(opened, gallery)
        opened.samples, opened.look_at = {"test": gallery}, [gallery]
        opened.other_samples = {**opened.other_samples, MEASURED: list(gallery.names)}
    reading = round(time.monotonic() - begin, 1)

    trained = "all" if method_class(options["method"]).trains_head_alone else options["trained"]
    parts: dict[str, Any] = {"trained": trained, "keep_row": options["keep_row"]}
    student = FaceClassifier(network=copy.deepcopy(original), num_classes=len(spec.classes), **parts)
    name, dataset = f"faces_{uuid.uuid4().hex}", FaceDataset(forget, spec, retain=kept)
    weights, hooks = str(Path(options["model"]) / WEIGHTS_NAME), [PersonProjection(count)]
    loop = {"seed": options["seed"], "resume": options["resume"], "device": torch.device(device), "hooks": hooks}
    try:
        runner = build_runner(student, dataset, weights, options["work_dir"], unlearn, name=name, **loop)
        runner.outcome.seconds = {"reading": reading, **runner.outcome.seconds}
        runner.train()
    finally:
        release_runner(name)
    if runner.outcome.published is not None:
        pass_on_enrolment(options["model"], runner.outcome.published, people)
    gallery_note = save_without(options["model"], runner, people, changes if changes and count else None)
    evaluation, measured, features = Evaluation(METRICS, ids, spec.classes), None, cast(Any, predictions.features)
    if gallery is not None:
        alone, numbers = None, original.head.weight.numel()
        if not len(predictions.labels):
            evaluation.not_measured["head_only"] = "no template of the people to forget was given to train it on"
        elif numbers <= MOST_HEAD:
            unlearn_head = partial(head_only, original.head, features, ids, rescale=False)  # a cosine head has no scale
            alone = evaluation.attempt("head_only", unlearn_head)
        else:
            evaluation.not_measured["head_only"] = f"training a head of {numbers:,} numbers would take too long"
        opened.models["erased"] = opened_model(student, spec)
        projected = changes[0] if changes else None
        measured = evaluation.attempt("rows", partial(measure, evaluation, opened, alone, projected))
    else:
        evaluation.add("original", {})
        evaluation.add("erased", {})
        if features is not None and len(features):
            after: Any = project_each(features, changes or ())
            if not isinstance(forget, Templates):
                after = predict_images(student.network, spec, forget, "Embedding photos").features
            details["drift"] = describe_drift(features, after, f"{noun} to forget (others were not measured)")
    details |= measured or {}
    if measured is not None and measured["matches"] is not None:
        networks = (original, student.network)
        details["removed_before"] = _removed_before(options["eval"], spec, framing, networks, measured["matches"])
    threshold = checks.set_threshold(far, runner.outcome.published, details.get("verification") or {})
    thresholds = {"model": spec.extra.get("threshold"), "far": far, "set": threshold}
    details["threshold"] = {**thresholds, "cosine": isinstance(network.head, CosineHead)}
    results = collect(
        runner,
        evaluation,
        data={name: shown(value) if isinstance(value := options.get(name), str) else value for name in DATA},
        measured_on=options["eval"],
        predicted_as=details.pop("predicted_as", None),
        details={**details, "row_removed": not options["keep_row"], "gallery": gallery_note},
    )

    def draw(path: Path) -> None:
        if measured is not None and gallery is not None and measured["held_out"]["of_removed_people"]:
            draw_people(path, gallery, evaluation.data, original.head, spec, ids, measured["verification"])

    published = runner.outcome.published
    title = f"Removing {', '.join(people)}: percent of held-out photos"
    if measured is not None:
        photos, removed = measured["held_out"].values()
        title += f", {removed} of removed and {photos - removed} of other people"
        earlier = details.get("removed_before")
        said = answer(measured["matches"], earlier) if measured["matches"] else []
        opened.limits = [*opened.limits, *(said[-1:] if earlier and earlier["pairs"] else ())]
        title = "\n".join([*said, title])
    lines = partial(lines_of, erased=None if published is None else short(published))
    output: dict[str, Any] = {"title": title, "wide": bool(options.get("wide")), "record": options.get("record")}
    output["picture"] = ("before_after.png", draw, CAPTION)
    results = report(runner, evaluation, results, opened, console, lines=lines, **output)
    refuse_unmeasured(runner, evaluation)
    return results


def _read_photos(
    options: Mapping[str, Any], head: Any, spec: ModelSpec, ids: Sequence[int], framing: Framing, console: Console,
    templates: Templates | None,
) -> tuple[ImageData | Templates, ImageData | None, ImageData | Templates | None, list[Copies], dict[str, Any]]:  # fmt: skip
    """Read the photos to forget, those to measure on, and those of people who stay (the latter two None if not given), and
    return their faces, copies among them, and details for results.json. ``templates`` take the place of photos to forget."""
    people = [spec.classes[i] for i in ids]
    own = None if templates is not None else open_own(options, people, spec.classes)
    retain: Any = options.get("retain")
    stored = retain is not None and is_store(retain)
    others = None if retain is None or stored else checks.open_kept(retain, people, spec)
    tested = open_tested(options, spec)
    notes: list[str] = []
    if tested is not None and own is not None:
        own, tested, notes = divide(own, tested, ids, options["model"], options["seed"])
        for note in notes:
            console.print(note)
    photos = None if own is None else frame_photos(own, framing, options["photos"], console=console)
    faces = None if photos is None else photos.data
    gallery, dropped, retained, copies = None, 0, None, list[Copies]()
    kept: Any = open_others(retain, people, spec, head, options["allow_import"]) if stored else None
    if tested is not None:
        held_out = frame_photos(tested, framing, options["eval"], "Finding held-out faces", console).data
        used = {} if faces is None else {"--photos": faces}
        # Any number is left out: --test may hold all photos of a person.
        kept_apart, copies = find_copies(held_out, "--test", used, like="--photos", most=1)
        gallery, dropped = held_out.subset(kept_apart), int((~kept_apart).sum())
        if dropped and not len(gallery):
            raise RequestError(f"all {dropped} photos of --test are to be forgotten; give others, or --test none")
    if others is not None:
        stay = frame_photos(others, framing, retain, "Finding faces of kept people", console)
        kept, measured_on, more = checks.choose_kept(stay.data, faces, gallery, ids)
        copies += more
        retained = {"in_eval_too": measured_on, **stay.left_out()}
    if kept is not None:
        counts = {"read": len(kept.names), "people": len(set(kept.labels.tolist()))}
        retained = {"noun": "templates" if stored else "photos", **counts, "in_eval_too": 0, **(retained or {})}
    if gallery is not None:
        gallery, limit = limit_photos(gallery, ids, len(spec.classes))
        if limit is not None:
            notes.append(limit)
            console.print(limit)
    account = {**({} if photos is None else photos.left_out()), "in_eval_too": dropped, "divided": notes}
    details: dict[str, Any] = {"photos": account, "retain": retained}
    if faces is not None:
        _warn_of_few(faces, gallery, ids, spec, console)
        return faces, gallery, kept, copies, details
    forget: Any = templates
    for warning in forget.warnings(spec.classes):
        console.print(f"Warning: {warning}")
    read = {"read": len(forget.names), "people_without": len(forget.lacking), "embedder_changed": bool(forget.names)}
    return forget, gallery, kept, copies, {**details, "templates": read}


def _removed_before(
    text: str, spec: ModelSpec, framing: Framing, networks: Sequence[Any], matches: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Measure pairs of photos of people whom earlier requests removed, at the same thresholds; None if there are none."""
    data = open_removed(text, spec)
    if data is None:
        return None
    faces = frame_photos(data, framing, text, "Finding faces of people removed before").data
    features: list[Any] = [predict_images(network, spec, faces).features for network in networks]
    tables = matched_pairs([each.numpy() for each in features], faces.labels, matches["thresholds"])
    return {"people": len(tables), **describe_matches(tables, torch.from_numpy(faces.labels))}


def _recipe(options: Mapping[str, Any], people: list[str], network: FaceNetwork, directions: int) -> dict[str, Any]:
    method = options["method"]
    kind = method_class(method)
    if kind.needs_retain_set:
        raise RequestError(f"{method} learns from a retain set alone, and faces remove has none; use --method DELETE")
    if options["stop"] is not None and not kind.needs_teacher:
        raise RequestError(f"{method} has no teacher to compare with: it takes --steps, not --stop")
    head = "cosine" if isinstance(network.head, CosineHead) else "linear"
    parameters = sum(tensor.numel() for tensor in network.parameters())
    facts = {"head": head, "people": len(people), "parameters": parameters, "directions": directions}
    named = {name: options[name] for name in checks.OF_STEPS if options[name] is not None}
    recipe = unlearn_options(people, method, {**BASE, **kind.defaults(RECIPES, **facts), **named})
    # Only long runs are worth resuming.
    recipe.setdefault("checkpoint_interval", max(25, recipe["steps"] // 4))
    return recipe


def _directions(options: Mapping[str, Any], people: int) -> int:
    """Choose the number of directions for each of so many ``people``; by default only DELETE projects any."""
    if not people or options.get("directions") is not None:
        return options["directions"] if people else 0
    return directions_for(people) if options["method"] == "DELETE" else 0


def _warn_of_few(
    forget: ImageData, gallery: ImageData | None, ids: Sequence[int], spec: ModelSpec, console: Console
) -> None:
    for i in ids:
        name, count = spec.classes[i], int((forget.labels == i).sum())
        held_out = 0 if gallery is None else int((gallery.labels == i).sum())
        if count == 1 and not held_out:
            console.print(
                f"Warning: a single photo of {name}, so there is no held-out check: nothing shows whether other photos of the "
                "person are forgotten. Give more photos, and some with --test"
            )
        elif count == 1:
            console.print(f"Warning: a single photo of {name}; perhaps only that photo is forgotten")
        elif gallery is not None and held_out < 2:
            console.print(f"Warning: {held_out} held-out photos of {name}; verification takes two or more")
