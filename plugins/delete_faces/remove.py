"""The command ``faces remove``: unlearn people, take their rows out, measure before and after."""

import copy
import time
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from delete_images.data.opening import ImageData, open_data
from delete_images.models.model_file import WEIGHTS_NAME, ModelSpec, load_model
from delete_images.opened import opened_model, predict_images
from delete_images.run_config import build_runner, method_class, release_runner
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import Evaluation, Predictions
from delete_tasks.fileio.compute import choose_device, flush_subnormals
from delete_tasks.model.modes import fast_layout
from delete_tasks.report.finish import refuse_unmeasured, report
from delete_tasks.report.results import collect
from delete_tasks.request.classes import resolve_classes

from . import register  # noqa: F401
from .checks import check_numbers, find_mislabelled, refuse_mislabelled
from .datasets import FaceDataset, framing_for
from .enrolment import complete_options, divide, open_tested
from .gallery.gallery import save_without
from .heads import CosineHead, without_rows
from .hooks import PersonProjection
from .metrics import METRICS, NO_PHOTOS
from .network import FaceNetwork, check_face_network
from .opened import CHANGED, MEASURED, open_run
from .photos import frame_photos, of_people
from .picture import draw_people
from .projection import directions_for, fold_each
from .recipes import BASE, RECIPES
from .report import answer, few_enough, lines_of, measure, rehearse, residue, unlearned_head, without_duplicates
from .retain import NO_PROJECTION, changes_of, choose_kept, open_kept
from .task import FaceClassifier

MOST_HEAD = 2**24  # numbers in a head that is trained for the row head_only: of 512 for each person, 32,768 people
CAPTION = "Held-out photos, and who the original and the erased model take them for."


def remove(options: Mapping[str, Any], console: Console) -> dict[str, Any]:
    """Make a model forget people; writes erased/, results.json and before_after.png into the work dir.

    Everything that can be refused is refused before anything is written.

    Args:
        options: ``model, person, photos, retain, eval, work_dir, keep_row, force, method, directions, steps, lr, batch_size,
            teacher_temperature, stop, seed, resume, aligned, largest_face, allow_import, device, processes``, as on the
            command line.
        console: For the table.

    Returns:
        What results.json holds.

    Raises:
        RequestError: Unknown people (the closest names are listed), everybody, no folder of photos, no face, photos that do
            not look like their person.
        CheckpointMismatchError: The model's names and its head disagree.
    """
    check_numbers(options, "steps", "lr", "batch_size", "teacher_temperature", "stop", "seed", "directions")
    flush_subnormals()
    network, spec = load_model(options["model"], options["allow_import"])
    network = check_face_network(network, f"'{options['model']}'")
    options = complete_options(options)
    ids = resolve_classes(options["person"], spec.classes)
    people = [spec.classes[i] for i in ids]  # as the model has them: 'colin powell' is Colin_Powell
    if not options["keep_row"]:
        without_rows(network.head, ids)  # refuses what cannot be done before the photos are read
    count = _directions(options, len(people))
    if options.get("retain") is not None and not count:
        raise RequestError(NO_PROJECTION)
    unlearn = _recipe(options, people, network, count)
    device = choose_device(options["device"])
    framing = framing_for(spec, options, device)
    begin = time.monotonic()
    given = open_data(of_people(options["photos"], people, "train"), "train", spec.classes)
    others = None if options.get("retain") is None else open_kept(options["retain"], people)
    tested = open_tested(options, spec.classes)
    notes: list[str] = []
    if tested is not None:
        given, tested, notes = divide(given, tested, ids, options["model"], options["seed"])
        for note in notes:
            console.print(note, markup=False)
    photos = frame_photos(given, framing, options["photos"])
    photos.tell(console)
    forget = photos.data
    gallery, dropped = None, 0
    if tested is not None:
        found = frame_photos(tested, framing, options["eval"], "Finding held-out faces")
        found.tell(console)
        gallery, dropped = without_duplicates(found.data, forget)
        if dropped:
            console.print(f"Left out of the figures: {dropped} photos of --test that --photos holds, too", markup=False)
    kept = None
    retained: dict[str, Any] | None = None
    if others is not None:
        found = frame_photos(others, framing, options["retain"], "Finding faces of kept people")
        found.tell(console)
        kept, measured_on = choose_kept(found.data, forget, gallery, ids, network.head.weight.shape[1])
        retained = {
            "photos": len(kept),
            "people": len(set(kept.labels.tolist())),
            "in_eval_too": measured_on,
            "no_face": found.no_face,
            "several_faces": found.several,
            "unreadable": found.unreadable,
        }
    if gallery is not None:
        gallery, left_out = few_enough(gallery, ids, len(spec.classes))
        if left_out is not None:
            notes.append(left_out)
            console.print(left_out, markup=False)
    _warn_of_few(forget, gallery, ids, spec, console)
    original: FaceNetwork = fast_layout(network.to(device))
    seen = predict_images(original, spec, forget, "Checking photos")
    _check_looks(original, seen, forget, options["force"], console)
    changes = None
    if seen.features is not None or count:
        changes = changes_of(original, spec, forget, seen, ids, count or directions_for(len(ids)), kept)
    if changes is not None and count:
        # On a copy, so that an embedder that takes none is refused before anything is written.
        fold_each(copy.deepcopy(original.embedder).eval(), changes, (3, *spec.preprocessing.size))
    opened = open_run(original, spec, ids, options)
    if gallery is not None:
        rehearse(opened, gallery)
        opened.samples, opened.look_at = {"test": gallery}, [gallery]
        opened.other_samples = {MEASURED: list(gallery.names)}
    if kept is not None:
        opened.other_samples = {"retain set": list(kept.names), **opened.other_samples}
        opened.limits = [*opened.limits, CHANGED]
    reading = round(time.monotonic() - begin, 1)

    student = FaceClassifier(
        network=copy.deepcopy(original),
        num_classes=len(spec.classes),
        trained="all" if method_class(options["method"]).trains_head_alone else options["trained"],
        keep_row=options["keep_row"],
    )
    dataset = FaceDataset(forget, spec, retain=kept)
    name = f"faces_{uuid.uuid4().hex}"
    try:
        runner = build_runner(
            student,
            dataset,
            str(Path(options["model"]) / WEIGHTS_NAME),
            options["work_dir"],
            unlearn,
            seed=options["seed"],
            resume=options["resume"],
            device=torch.device(device),
            name=name,
            hooks=[PersonProjection(count)],
        )
        runner.train()
    finally:
        release_runner(name)
    runner.outcome.seconds = {"reading": reading, **runner.outcome.seconds}
    gallery_note = save_without(options["model"], runner, people, changes if count else None)
    folder, erased = Path(runner.work_dir), check_face_network(student.network, "the model")
    evaluation, measured = Evaluation(METRICS, ids, spec.classes), None
    if gallery is not None and len(gallery):
        head = partial(unlearned_head, original, ids, seen, unlearn, options["seed"])
        if original.head.weight.numel() <= MOST_HEAD:
            alone = evaluation.attempt("head_only", head)
        else:
            alone, why = (
                None,
                f"a head of {original.head.weight.numel():,} numbers would take longer to train than all else",
            )
            evaluation.not_measured["head_only"] = why
        opened.models["erased"] = opened_model(student, spec)
        projected = None if changes is None else changes[0].directions
        measured = evaluation.attempt("rows", partial(measure, evaluation, opened, alone, projected))
    else:
        evaluation.add("original", {})
        evaluation.add("erased", {})
    details = dict(measured or {"verdict": f"Not measured: {evaluation.not_measured.get('rows', NO_PHOTOS)}."})
    results = collect(
        runner,
        evaluation,
        data={name: options.get(name) for name in ("model", "photos", "retain", "eval", "aligned", "largest_face")},
        measured_on=options["eval"],
        predicted_as=details.pop("predicted_as", None),
        details={
            **details,
            "photos": {
                "no_face": photos.no_face,
                "several_faces": photos.several,
                "unreadable": [list(pair) for pair in photos.unreadable],
                "in_eval_too": dropped,
                "divided": notes,
            },
            "row_removed": not options["keep_row"],
            "retain": retained,
            "gallery": gallery_note,
        },
    )

    def draw(path: Path) -> None:
        if measured is not None and gallery is not None and measured["held_out"]["of_removed_people"]:
            draw_people(path, gallery, original, erased, spec, ids, measured["verification"])

    def lines(results: dict[str, Any]) -> list[str]:
        results["details"]["still_holding"] = residue(folder, people, options["model"], options["photos"])
        return lines_of(results)

    title = f"Removing {', '.join(people)}: percent of held-out photos"
    if measured is not None:
        held = measured["held_out"]
        others = held["photos"] - held["of_removed_people"]
        title += f", {held['of_removed_people']} of removed and {others} of other people"
        told = answer(people, measured["verification"], len(spec.classes) - len(people))
        title = title if told is None else f"{told}\n{title}"
    results = report(
        runner,
        evaluation,
        results,
        opened,
        console,
        title=title,
        wide=bool(options.get("wide")),
        picture=("before_after.png", draw, CAPTION),
        lines=lines,
        record=options.get("record"),
    )
    refuse_unmeasured(runner, evaluation)
    return results


def _recipe(options: Mapping[str, Any], people: list[str], network: FaceNetwork, directions: int) -> dict[str, Any]:
    method = options["method"]
    kind = method_class(method)
    if kind.needs_retain_set:
        raise RequestError(f"{method} learns from a retain set alone, and none is read here; use --method DELETE")
    if options["stop"] is not None and not kind.needs_teacher:
        raise RequestError(f"{method} has no teacher to compare with: it takes --steps, not --stop")
    head = "cosine" if isinstance(network.head, CosineHead) else "linear"
    parameters = sum(tensor.numel() for tensor in network.parameters())
    facts = {"head": head, "people": len(people), "parameters": parameters, "directions": directions}
    recipe = {"type": method, "classes": people, **copy.deepcopy(BASE), **kind.defaults(RECIPES, **facts)}
    for name in ("steps", "batch_size", "teacher_temperature", "stop", "lr"):
        if options[name] is not None:
            recipe[name] = options[name]
    recipe["optimizer"]["lr"] = recipe.pop("lr")
    # Resuming is for runs of many photos; a state in between of a short one would only cost time.
    recipe.setdefault("checkpoint_interval", max(25, recipe["steps"] // 4))
    return recipe


def _directions(options: Mapping[str, Any], people: int) -> int:
    """Other methods stand for themselves in comparisons, and project nothing unless asked to."""
    given = options.get("directions")
    return (directions_for(people) if options["method"] == "DELETE" else 0) if given is None else given


def _warn_of_few(
    forget: ImageData, gallery: ImageData | None, ids: list[int], spec: ModelSpec, console: Console
) -> None:
    counts = np.bincount(forget.labels, minlength=len(spec.classes))
    held = None if gallery is None else np.bincount(gallery.labels, minlength=len(spec.classes))
    for i in ids:
        if counts[i] == 1 and (held is None or not held[i]):
            console.print(
                f"Warning: a single photo of {spec.classes[i]}, so there is no held-out check: nothing shows whether other "
                "photos of the person are forgotten. Give more photos, and some apart with --test"
            )
        elif counts[i] == 1:
            console.print(f"Warning: a single photo of {spec.classes[i]}; what is forgotten may be that photo alone")
        elif held is not None and held[i] < 2:
            console.print(f"Warning: {held[i]} held-out photos of {spec.classes[i]}; verification takes two or more")


def _check_looks(network: FaceNetwork, found: Predictions, forget: ImageData, force: bool, console: Console) -> None:
    if found.features is None:
        return
    rows = network.head.weight.detach().cpu()
    mislabelled = find_mislabelled(found.features, rows, found.logits, found.labels)
    warning = refuse_mislabelled(mislabelled, forget, found.features, rows, force)
    if warning:
        console.print(f"Warning: {warning}", markup=False)
