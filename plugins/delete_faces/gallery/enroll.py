"""The commands ``faces enroll``, which makes a face-identification model from photos of people, one folder each, and ``faces
align``, which detects their faces once and writes them as pictures, for commands without a detector."""

import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from delete_images.data.opening import ImageData
from delete_images.data.strings import parse_spec
from delete_images.models.model_file import ModelSpec, Preprocessing, save_model
from delete_images.opened import ImageBatches
from delete_tasks.audit.probes import as_linear_map, fit_linear_probe
from delete_tasks.errors import RequestError, require
from delete_tasks.evaluation.reader import OpenedModel, predictions
from delete_tasks.fileio.atomic import replacing, replacing_folder, save_json
from delete_tasks.fileio.compute import choose_device, flush_subnormals
from delete_tasks.model.modes import fast_layout

from ..backbones import ONNX, backbone_defaults, load_backbone_weights, open_backbone
from ..enrolment import NAME, describe_photos, is_divided
from ..network import CosineHead, FaceNetwork, Head, LinearHead, build_head, describe_network
from ..photos import Framing, hold_out, open_photos, person_folders

BATCH = 64
LEFT_OUT = "left_out.json"
STRANGERS_ACCEPTED = 0.01  # share of strangers that the threshold of `identify` accepts
FOLDS = 5  # parts of the people, each left out once to score strangers
# Loss at which training a cosine head ends. With few people it falls on towards zero, and Adam's steps, which do not shrink with
# the gradient, turn the class weights away from their people: of three people, a third then scores below one in a hundred
# strangers.
LEAST_LOSS = 1e-4
STEPS = 300  # of Adam, at most
MARGIN = 0.2  # CosFace's m, subtracted from the cosine in training; its 0.35 is for thousands of people


def embed(embedder: nn.Module, preprocessing: Preprocessing, data: ImageData, title: str = "Embedding") -> Tensor:
    """Compute embeddings, float32 ``(n, D)``, in eval mode on the embedder's device; refuse other outputs than vectors."""
    model = OpenedModel(embedder, nn.Identity(), ImageBatches(preprocessing=preprocessing, size=BATCH))
    embeddings = predictions({"": model}, data, title)[""].logits
    if embeddings.ndim != 2:
        shape = tuple(embeddings.shape[1:])
        raise RequestError(f"the backbone returns a tensor of shape {shape} per face; expected one embedding vector")
    return embeddings


def fit_head(head: Head, embeddings: Tensor, labels: Tensor) -> None:
    """Train a head, in place, on fixed embeddings ``(n, D)``; ``labels``, int64 ``(n,)``, have every class. Nothing is random. A
    linear head is multinomial logistic regression on standardised embeddings (scikit-learn), the scaling folded in. A cosine head
    starts from each person's mean embedding and is trained with CosFace's margin by Adam on all photos."""
    if isinstance(head, LinearHead):
        weight, bias = as_linear_map(fit_linear_probe(embeddings.numpy(), labels.numpy()))
        if len(weight) == 1:  # scikit-learn keeps the second of two classes
            weight, bias = np.r_[-weight, weight] * np.float32(0.5), np.r_[-bias, bias] * np.float32(0.5)
        head.weight.data, head.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
        return
    unit, classes = F.normalize(embeddings), head.weight.shape[0]
    head.weight.data = F.normalize(torch.zeros_like(head.weight.data).index_add_(0, labels, unit))
    optimizer = torch.optim.Adam([head.weight], lr=0.01)
    margin = MARGIN * F.one_hot(labels, classes)
    with torch.enable_grad():
        for _ in range(STEPS):
            cosines = unit @ F.normalize(head.weight).T
            loss = F.cross_entropy(head.scale * (cosines - margin), labels)
            if loss.item() < LEAST_LOSS:
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    head.weight.data = F.normalize(head.weight.data)


def stranger_threshold(scores: Tensor, people: int) -> float | None:
    """Compute the score that the best of ``people`` impostor pairs reaches for one stranger in a hundred: a stranger is compared
    with every person, so it grows with their number. ``scores``, of any shape, of a photo and another person's class weights, are
    taken as normal: that takes few pairs, and varies less than the highest. None with fewer than two: no deviation."""
    if scores.numel() < 2:
        return None
    deviations = NormalDist().inv_cdf((1 - STRANGERS_ACCEPTED) ** (1 / people))
    return round(float(scores.mean() + deviations * scores.std()), 4)


def impostor_scores(head: Head, train: Tensor, train_labels: Tensor, embeddings: Tensor, labels: Tensor) -> Tensor:
    """Compute scores of photos with other people's class weights, by heads that have never seen the photos' own person. The
    model's head would not do: it has learnt to separate its people, so they score lower with each other's class weights than
    strangers do. Each head here, of the kind of ``head``, leaves a fifth of the people out (one, of five or fewer). It is fitted
    on ``train``, ``(n, D)``, with every person among its labels, int64 ``(n,)``; ``embeddings``, ``(m, D)``, are scored. The
    result, float32 ``(k,)``, has one for each photo and other person; none if too few people remain."""
    people, scale = head.weight.shape[0], head.scale if isinstance(head, CosineHead) else None
    scores = [torch.zeros(0)]
    for left_out in np.array_split(np.arange(people), min(people, FOLDS)):
        fitted = np.setdiff1d(np.arange(people), left_out)
        if len(fitted) < (3 if scale is None else 1):  # logistic regression's scores for two are of another size
            continue
        chosen, scored = np.isin(train_labels, fitted), np.isin(labels, left_out)
        smaller = build_head("linear" if scale is None else "cosine", train.shape[1], len(fitted), scale)
        fit_head(smaller, train[chosen], torch.from_numpy(np.searchsorted(fitted, train_labels[chosen].numpy())))
        with torch.no_grad():
            scores.append(smaller.scores(smaller(embeddings[scored])).flatten())
    return torch.cat(scores)


def enroll(options: Mapping[str, Any], console: Console) -> None:
    """Make a model folder from photos; ``options`` are the command's. Refuse no photos, a single person, and a wrong backbone."""
    flush_subnormals()
    begin = time.monotonic()
    if Path(options["out"]).is_file():
        raise RequestError(f"--out '{options['out']}' is a file; give a folder")
    embedder, name, arguments, default = open_backbone(options)
    if options["weights"] is None:
        console.print("No --weights: the backbone keeps random weights, and so recognises people badly")
    elif name != ONNX:
        load_backbone_weights(embedder, name, options["weights"])
    device = choose_device(options["device"])
    embedder = fast_layout(embedder.to(device))

    flags = (options["aligned"], options["largest_face"], device, options.get("processes"))
    framing = Framing(default.preprocessing, default.framing, *flags)
    text, tested = options["photos"], options["eval"] or options["photos"]
    tests = Path(parse_spec(text).path or "").expanduser() / "test"
    apart = options["eval"] is not None or (is_divided(text) and tests.is_dir())
    if len(person_folders(text, "train")) < 2:
        raise RequestError(f"'{text}' holds photos of one person; a model needs two people or more to choose among")
    train = open_photos(text, "train", framing, console=console).data
    if apart:
        held_out = open_photos(tested, "test", framing, train.class_names, "Finding held-out faces", console).data
    else:
        mask = hold_out(train.labels, options["held_out"], options["seed"])
        train, held_out = train.subset(~mask), train.subset(mask)
    aligned = time.monotonic()
    people, labels = train.class_names, torch.from_numpy(train.labels)
    embeddings = embed(embedder, framing.preprocessing, train, "Embedding photos")
    size = embeddings.shape[1]
    head = build_head(options["head"], size, len(people), options["scale"])
    fit_head(head, embeddings, labels)
    network = FaceNetwork(embedder, head.to(device))
    rate, scored, scored_labels = None, embeddings, labels
    if len(held_out):
        others = embed(embedder, framing.preprocessing, held_out, "Held-out photos")
        other_labels = torch.from_numpy(held_out.labels)
        with torch.no_grad():
            rate = round(100 * float((network.head.cpu()(others).argmax(1) == other_labels).float().mean()), 2)
        scored, scored_labels = torch.cat([embeddings, others]), torch.cat([labels, other_labels])
    scores = impostor_scores(network.head, embeddings, labels, scored, scored_labels)
    threshold = stranger_threshold(scores, len(people))
    parts = dict(backbone=name, embedding_size=size, head=options["head"], scale=options["scale"])
    described = {**parts, "backbone_arguments": arguments}
    extra = {"framing": framing.framing, "threshold": threshold}
    spec = describe_network(ModelSpec("", people, framing.preprocessing, described, extra))
    seconds = {"faces": round(aligned - begin, 1), "all": round(time.monotonic() - begin, 1)}
    summary: dict[str, Any] = {
        "people": len(people),
        "training_photos": len(train),
        "held_out_photos": len(held_out) or None,
        "held_out_rate": rate,
        "threshold": threshold,
        "impostor_pairs": len(scores),
        "seconds": seconds,
        "held_out": held_out.names,
        "source": describe_photos(text, tested, "test" if apart else "train", options),
    }
    with replacing_folder(options["out"]) as folder:
        save_model(folder, network, spec)
        save_json(summary, folder / NAME)
    identified = "not measured" if rate is None else f"{rate:.2f}% of {len(held_out)} held-out photos identified"
    console.print(f"{len(people)} people, {len(train)} training photos; {identified}")
    if threshold is None:
        console.print("Too few people to set a threshold for strangers; identify takes one from the photos it is given")
    else:
        console.print(f"Faces that score below {threshold:.3f} are unknown (from {len(scores):,} impostor pairs)")
    console.print(f"{seconds['all']:.0f} s, of which {seconds['faces']:.0f} s to find faces\nWritten: {options['out']}")


def align(options: Mapping[str, Any], console: Console) -> dict[str, Any]:
    """Write the face on each photo to ``OUT/train/PERSON/`` or ``OUT/test/PERSON/`` as PNG, in the subfolder of its photo; return
    the summary's figures. Refuse a non-empty folder, no photos, no faces, and a person's name that cannot be a folder's."""
    image_module = require("PIL.Image", "faces")
    out = Path(options["out"])
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError(f"--out '{out}' is not empty; give a new folder, so that no other held-out photos are in it")
    default = backbone_defaults(options["backbone"])
    flags = (False, options["largest_face"], choose_device(options["device"]), options.get("processes"))
    framing = Framing(default.preprocessing, default.framing, *flags)
    begin = time.monotonic()
    photos = open_photos(options["photos"], "train", framing, console=console)
    seconds = time.monotonic() - begin
    data, total, found = photos.data, photos.searched, photos.searched - len(photos.no_face)
    held_out = hold_out(data.labels, options["held_out"], options["seed"])
    for i, path in enumerate(_places(data, out, held_out)):
        with replacing(path) as temporary:
            image_module.fromarray(data[i][0]).save(temporary, "PNG")
    if any(photos.left_out().values()):
        save_json(photos.left_out(), out / LEFT_OUT)
        console.print(f"All photos that were left out are listed in {out / LEFT_OUT}")
    several, unreadable, tested = len(photos.several), len(photos.unreadable), int(held_out.sum())
    each = round(seconds / max(1, total), 4)
    console.print(
        f"A face found on {found} of {total} photos ({100 * found / total:.1f}%), {1000 * each:.0f} ms a photo\nWritten: {out} "
        f"({len(data) - tested} faces in train, {tested} in test)"
    )
    counts = {"photos": total, "found": found, "several": several, "unreadable": unreadable, "held_out": tested}
    return {**counts, "seconds_a_photo": each}


def _places(data: ImageData, out: Path, held_out: np.ndarray) -> list[Path]:
    """Choose a file for each photo's face."""
    places = []
    for i, name in enumerate(data.names):
        person = data.class_names[int(data.labels[i])]
        if person in (".", "..") or "/" in person or os.sep in person or "\0" in person:
            raise RequestError(f"'{person}' cannot be the name of a person's folder; give the photos another name")
        within = Path(name.removeprefix(f"{person}/"))
        places.append(out / ("test" if held_out[i] else "train") / person / within.with_name(f"{within.name}.png"))
    taken = Counter([*places, *{parent for path in places for parent in path.parents}])
    twice = [path for path in places if taken[path] > 1]
    if twice:
        raise RequestError(f"several photos would be written to '{twice[0]}'; rename them")
    return places
