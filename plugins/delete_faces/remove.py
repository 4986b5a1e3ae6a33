"""The command ``faces remove``: unlearn people, take their rows out, measure before and after."""

from __future__ import annotations

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

from delete_images.data import ImageData, open_data
from delete_images.evaluate import predict_images
from delete_images.model_file import WEIGHTS_NAME, ModelSpec, load_model
from delete_images.runs import build_runner, method_class, release_runner
from delete_tasks.errors import RequestError
from delete_tasks.evaluation import Evaluation, collect, report
from delete_tasks.evaluation.results import refuse_unmeasured
from delete_tasks.masking import resolve_classes

from . import register  # noqa: F401
from .checks import check_numbers, find_mislabelled, refuse_mislabelled
from .datasets import FaceDataset, framing_of
from .divide import divide
from .heads import CosineHead, Head, without_rows
from .metrics import METRICS, NO_PHOTOS
from .network import FaceNetwork, check_face_network, fast_layout
from .photos import frame_photos, of_people
from .picture import draw_people
from .report import lines_of, measure, rehearse, residue, without_duplicates
from .task import FaceClassifier

# Chosen on other people and photos than those of the published figures, see docs/notes/faces.md. Plain SGD, whose steps fade
# with the gradient: Adam's go on when the person is gone, and bring the person's photos together again elsewhere.
RATES = {"cosine": 1e-2, "linear": 1e-1}  # for one person; with n people a step holds one n-th as many photos of each
STOPS = {"cosine": 0.01, "linear": 0.03}
RECIPES: dict[str, dict[str, Any]] = {
    "DELETE": {"optimizer": {"type": "SGD"}, "schedule": "constant", "steps": 200, "batch_size": 16},
    "HeadOnly": {"optimizer": {"type": "AdamW", "lr": 1e-2}, "steps": 200, "batch_size": 16, "sharpen": 0.25},
    "RandomLabel": {"optimizer": {"type": "AdamW", "lr": 1e-4}, "steps": 60, "batch_size": 16},
    "NegativeGradient": {"optimizer": {"type": "AdamW", "lr": 1e-5}, "steps": 60, "batch_size": 16},
}


def remove(options: Mapping[str, Any], console: Console) -> dict[str, Any]:
    """Make a model forget people; writes erased/, results.json and before_after.png into the work dir.

    Everything that can be refused is refused before anything is written.

    Args:
        options: ``model, person, photos, eval, work_dir, keep_row, force, method, steps, lr, batch_size, sharpen, stop, seed,
            resume, aligned, largest_face, allow_import, device``, as on the command line.
        console: For the table.

    Returns:
        What results.json holds.

    Raises:
        RequestError: Unknown people (the closest names are listed), everybody, no folder of photos, no face, photos that do
            not look like their person.
        CheckpointMismatchError: The model's names and its head disagree.
    """
    check_numbers(options, "steps", "lr", "batch_size", "sharpen", "stop", "seed")
    torch.set_flush_denormal(True)  # see UnlearnRunner.setup_env
    network, spec = load_model(options["model"], options["allow_import"])
    network = check_face_network(network, f"'{options['model']}'")
    people, ids = _people(options["person"], spec)
    if not options["keep_row"]:
        without_rows(network.head, ids)  # refuses what cannot be done before the photos are read
    unlearn = _recipe(options, people, network.head)
    device = "cuda" if torch.cuda.is_available() and options["device"] != "cpu" else "cpu"
    framing = framing_of(spec, aligned=options["aligned"], largest_face=options["largest_face"], device=device)
    begin = time.monotonic()
    given = open_data(of_people(options["photos"], people, "train"), "train", spec.classes)
    tested = None if options["eval"] is None else open_data(options["eval"], "test", spec.classes)
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
    _warn_of_few(forget, gallery, ids, spec, console)
    original: FaceNetwork = fast_layout(network.to(device))
    _check_looks(original, spec, forget, options["force"], console)
    rehearse(original, spec, ids, forget, gallery, unlearn, options["seed"])
    reading = round(time.monotonic() - begin, 1)

    student = FaceClassifier(
        network=copy.deepcopy(original),
        num_classes=len(spec.classes),
        trained="all" if options["method"] == "HeadOnly" else options["trained"],
        keep_row=options["keep_row"],
    )
    dataset = FaceDataset(forget, spec)
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
        )
        runner.train()
    finally:
        release_runner(name)
    runner.seconds = {"reading": reading, **runner.seconds}
    folder, erased = Path(runner.work_dir), check_face_network(student.network, "the model")
    evaluation, measured = Evaluation(METRICS, ids, spec.classes), None
    if gallery is not None and len(gallery):
        work = partial(measure, evaluation, original, erased, spec, forget, gallery, unlearn, options["seed"])
        measured = evaluation.attempt("rows", work)
    else:
        evaluation.add("original", {})
        evaluation.add("erased", {})
    details = dict(measured or {"verdict": f"Not measured: {evaluation.not_measured.get('rows', NO_PHOTOS)}."})
    results = collect(
        runner,
        evaluation,
        data={name: options[name] for name in ("model", "photos", "eval", "aligned", "largest_face")},
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
    results = report(
        runner,
        evaluation,
        results,
        console,
        title=title,
        wide=bool(options.get("wide")),
        picture=("before_after.png", draw),
        lines=lines,
        record=options.get("record"),
        unsaved={"measured": [] if gallery is None else list(gallery.names)},
    )
    refuse_unmeasured(runner, evaluation)
    return results


def _people(wanted: list[str], spec: ModelSpec) -> tuple[list[str], list[int]]:
    """Names as the model has them ('colin powell' is Colin_Powell), and ids."""
    ids = resolve_classes(wanted, spec.classes)
    return [spec.classes[i] for i in ids], ids


def _recipe(options: Mapping[str, Any], people: list[str], head: Head) -> dict[str, Any]:
    method = options["method"]
    wanted = method_class(method)
    if options["stop"] is not None and not wanted.needs_teacher:
        raise RequestError(f"{method} has no teacher to compare with: it takes --steps, not --stop")
    recipe = {
        "type": method,
        "classes": people,
        "schedule": "cosine",
        **copy.deepcopy(RECIPES.get(method, RECIPES["DELETE"])),
    }
    for name in ("steps", "batch_size", "sharpen", "stop"):
        if options[name] is not None:
            recipe[name] = options[name]
    rate, kind = options["lr"], "cosine" if isinstance(head, CosineHead) else "linear"
    if method == "DELETE":
        recipe.setdefault("stop", {"ratio": STOPS[kind], "window": 3})
        rate = RATES[kind] * len(people) if rate is None else rate
    if rate is not None:
        recipe["optimizer"]["lr"] = rate
    # Resuming is for runs of many photos; a state in between of a short one would only cost time.
    recipe.setdefault("checkpoint_interval", max(25, recipe["steps"] // 4))
    return recipe


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


def _check_looks(network: FaceNetwork, spec: ModelSpec, forget: ImageData, force: bool, console: Console) -> None:
    found = predict_images(network, spec, forget, "Checking photos")
    if found.features is None:
        return
    rows = network.head.weight.detach().cpu()
    odd = find_mislabelled(found.features, rows, found.logits, found.labels)
    warning = refuse_mislabelled(odd, forget, found.features, rows, force)
    if warning:
        console.print(f"Warning: {warning}", markup=False)
