"""The command ``faces enroll``: a face-identification model from photos of people, one folder each."""

import time
from collections.abc import Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from msgspec.structs import replace
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader

from delete_images.data.opening import ImageData
from delete_images.data.strings import parse_spec
from delete_images.data.transforms import TransformedData, eval_transform, train_transform
from delete_images.models.model_file import ModelSpec, save_model
from delete_images.models.spec import Preprocessing
from delete_tasks.audit.probes import as_linear_map, fit_linear_probe
from delete_tasks.display.terminal import track
from delete_tasks.errors import RequestError
from delete_tasks.fileio.atomic import replacing_folder, save_json
from delete_tasks.fileio.compute import choose_device, flush_subnormals
from delete_tasks.model.modes import fast_layout

from ..backbones import backbone_defaults, build_backbone, load_backbone_weights
from ..checks import check_numbers
from ..enrolment import NAME, describe_photos, is_divided
from ..heads import CosineHead, Head, LinearHead, build_head
from ..network import FaceNetwork, describe_network
from ..photos import Framing, Photos, hold_out, open_photos, person_folders

BATCH = 64
STRANGERS_ACCEPTED = 0.01  # share of strangers whom the threshold of `identify` lets through
FOLDS = 5  # of people who are left out together when strangers' scores are looked for
# Loss at which a cosine head is done. With few people it falls on towards zero, and Adam's steps, which do not shrink with the
# gradient, turn the rows away from their people: of three people, a third then scores below one in a hundred strangers.
TOLD_APART = 1e-4
STEPS = 300  # of Adam, at most
MARGIN = 0.2  # of the cosine in training, CosFace's m; smaller than its 0.35, which is for thousands of people


def embed(embedder: nn.Module, spec: ModelSpec | Preprocessing, data: ImageData, title: str = "Embedding") -> Tensor:
    """Embeddings float32 ``(n, D)`` of faces, as the embedder gives them, in eval mode on its device."""
    embedder.eval()
    device = next((p.device for p in embedder.parameters()), torch.device("cpu"))
    loader = DataLoader(TransformedData(data, eval_transform(spec)), batch_size=BATCH)
    with torch.no_grad():
        rows = [embedder(faces.to(device)).float().cpu() for faces, _ in track(loader, len(loader), title)]
    found = torch.cat(rows)
    if found.ndim != 2:
        raise RequestError(
            f"the backbone gives tensors of shape {tuple(found.shape[1:])} a face; expected one row of numbers, an embedding"
        )
    return found


def fit_head(head: Head, embeddings: Tensor, labels: Tensor) -> None:
    """Train a head on embeddings that do not change.

    A linear head is multinomial logistic regression on standardised embeddings (scikit-learn), the scaling folded in. A
    cosine head starts from each person's mean embedding and is trained with CosFace's margin by Adam on all photos. Neither
    is random.

    Args:
        head: Changed in place.
        embeddings: ``(n, D)``.
        labels: int64 ``(n,)``, every class among them.
    """
    if isinstance(head, LinearHead):
        probe = fit_linear_probe(embeddings.numpy(), labels.numpy())
        weight, bias = as_linear_map(probe)
        if len(weight) == 1:  # scikit-learn keeps one row for two classes: the second's
            weight, bias = np.r_[-weight, weight] * np.float32(0.5), np.r_[-bias, bias] * np.float32(0.5)
        head.weight.data, head.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
        return
    unit, classes = F.normalize(embeddings), head.weight.shape[0]
    means = torch.zeros_like(head.weight.data).index_add_(0, labels, unit)
    head.weight.data = F.normalize(means)
    optimizer = torch.optim.Adam([head.weight], lr=0.01)
    margin = MARGIN * F.one_hot(labels, classes)
    with torch.enable_grad():
        for _ in range(STEPS):
            cosines = unit @ F.normalize(head.weight).T
            loss = F.cross_entropy(head.scale * (cosines - margin), labels)
            if loss.item() < TOLD_APART:
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    head.weight.data = F.normalize(head.weight.data)


def finetune(network: FaceNetwork, spec: ModelSpec, data: ImageData, epochs: int, lr: float, seed: int) -> None:
    """Train embedder and head together on faces, mirrored at random; norm statistics stay as they are. AdamW's rate falls from
    ``lr`` to zero as a cosine; ``seed`` is that of order and mirroring."""
    device = next(network.parameters()).device
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        loader = DataLoader(TransformedData(data, train_transform(spec, crop="none")), batch_size=32, shuffle=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, epochs * len(loader)))
        network.eval()  # a handful of photos a person would spoil running statistics; the weights train all the same
        batches = (batch for _ in range(epochs) for batch in loader)
        with torch.enable_grad():
            for faces, labels in track(batches, epochs * len(loader), "Finetuning"):
                logits, labels = network(faces.to(device)), labels.to(device)
                if isinstance(network.head, CosineHead):
                    logits = logits - network.head.scale * MARGIN * F.one_hot(labels, logits.shape[1])
                optimizer.zero_grad()
                F.cross_entropy(logits, labels).backward()
                optimizer.step()
                schedule.step()


def stranger_threshold(scores: Tensor, people: int) -> float | None:
    """Compute the score that the best of ``people`` impostor pairs reaches for one stranger in a hundred.

    A stranger is compared with every person, so the threshold grows with their number. Scores of pairs are taken as normally
    distributed, which gives a threshold from however few, and one that varies less than the highest score seen.

    Args:
        scores: Of impostor pairs, i.e. of a photo and another person's row; any shape.
        people: Number of people in the model.

    Returns:
        None with fewer than two pairs.
    """
    if scores.numel() < 2:  # which have no spread
        return None
    deviations = NormalDist().inv_cdf((1 - STRANGERS_ACCEPTED) ** (1 / people))
    return round(float(scores.mean() + deviations * scores.std()), 4)


def impostor_scores(head: Head, train: Tensor, train_labels: Tensor, embeddings: Tensor, labels: Tensor) -> Tensor:
    """Scores of photos with the rows of other people, by heads that have never seen the photos' own person.

    The head's own scores would not do: it has learnt to keep the people it knows apart, so they score lower with each other's
    rows than strangers do. Each head here leaves a fifth of the people out (one, of five or fewer).

    Args:
        head: Of the model; says what kind the others are.
        train: Embeddings ``(n, D)`` that heads are fitted on.
        train_labels: int64 ``(n,)``, every person among them.
        embeddings: ``(m, D)`` to be scored.
        labels: int64 ``(m,)``.

    Returns:
        float32 ``(k,)``, one for each photo and row; none where too few people are left to fit a head on.
    """
    people, scale = head.weight.shape[0], head.scale if isinstance(head, CosineHead) else None
    found = []
    for out in np.array_split(np.arange(people), min(people, FOLDS)):
        kept = np.setdiff1d(np.arange(people), out)
        if len(kept) < (3 if scale is None else 1):  # of two people, logistic regression makes scores of another size
            continue
        used, scored = (
            torch.isin(which, torch.from_numpy(who)) for which, who in ((train_labels, kept), (labels, out))
        )
        smaller = build_head("linear" if scale is None else "cosine", train.shape[1], len(kept), scale)
        fit_head(smaller, train[used], torch.from_numpy(np.searchsorted(kept, train_labels[used].numpy())))
        with torch.no_grad():
            found.append(smaller.scores(smaller(embeddings[scored])).flatten())
    return torch.cat(found) if found else torch.zeros(0)


def enroll(options: Mapping[str, Any], console: Console) -> dict[str, Any]:
    """Make a model folder from photos; the function behind the command.

    Args:
        options: ``photos, eval, out, backbone, weights, head, scale, embedding_size, backbone_arguments, finetune, epochs, lr,
            held_out, aligned, largest_face, seed, allow_import, device, processes``, as on the command line.
        console: For the summary.

    Returns:
        What enrolment.json holds.

    Raises:
        RequestError: A number out of range, no photos, fewer than two people, a backbone that cannot be built.
    """
    check_numbers(options, "held_out", "seed", "scale", "embedding_size")
    if options["finetune"]:
        check_numbers(options, "epochs", "lr")
    flush_subnormals()
    begin = time.monotonic()
    if Path(options["out"]).is_file():
        raise RequestError(f"--out '{options['out']}' is a file; give a folder")
    name = options["backbone"]
    default = backbone_defaults(name)
    embedder = build_backbone(
        name, options["embedding_size"], options["backbone_arguments"], allow_import=options["allow_import"]
    )
    if options["weights"] is not None:
        load_backbone_weights(embedder, name, options["weights"])
    elif not options["finetune"]:
        console.print("No --weights: the backbone keeps random weights, and so recognises people badly")
    device = choose_device(options["device"])
    embedder = fast_layout(embedder.to(device))

    flags = (options["aligned"], options["largest_face"], device, options.get("processes"))
    framing = Framing(default.preprocessing, default.framing, *flags)
    train, held = _photos(options, framing, console)
    aligned = time.monotonic()
    people = train.class_names
    rows = embed(embedder, framing.preprocessing, train, "Embedding photos")
    labels = torch.from_numpy(train.labels)
    arguments: dict[str, Any] = {"backbone": name, "embedding_size": rows.shape[1], "head": options["head"]}
    if options["scale"] is not None:
        arguments["scale"] = options["scale"]
    if options["backbone_arguments"]:
        arguments["backbone_arguments"] = dict(options["backbone_arguments"])
    head = build_head(options["head"], rows.shape[1], len(people), options["scale"])
    fit_head(head, rows, labels)
    network = FaceNetwork(embedder, head.to(next(embedder.parameters()).device))
    spec = describe_network(ModelSpec("", people, framing.preprocessing, arguments, {"framing": framing.framing}))
    if options["finetune"]:
        finetune(network, spec, train, options["epochs"], options["lr"], options["seed"])
        rows = embed(embedder, spec, train, "Embedding photos")
    rate, all_rows, all_labels = None, rows, labels
    if held is not None and len(held):
        tested, own = embed(embedder, spec, held, "Held-out photos"), torch.from_numpy(held.labels)
        with torch.no_grad():
            rate = round(100 * float((network.head.cpu()(tested).argmax(1) == own).float().mean()), 2)
        all_rows, all_labels = torch.cat([rows, tested]), torch.cat([labels, own])
    scores = impostor_scores(network.head, rows, labels, all_rows, all_labels)
    threshold = stranger_threshold(scores, len(people))
    spec = replace(spec, extra={**spec.extra, "threshold": threshold})
    summary: dict[str, Any] = {
        "people": len(people),
        "training_photos": len(train),
        "held_out_photos": None if held is None else len(held),
        "held_out_rate": rate,
        "threshold": threshold,
        "impostor_pairs": len(scores),
        "finetuned_epochs": options["epochs"] if options["finetune"] else None,
        "seconds": {"faces": round(aligned - begin, 1), "all": round(time.monotonic() - begin, 1)},
        "held_out": [] if held is None else held.names,
        "source": describe_photos(options["photos"], *_tested(options), options),
    }
    with replacing_folder(options["out"]) as folder:
        save_model(folder, network, spec)
        save_json(summary, folder / NAME)
    shown = "not measured" if rate is None else f"{rate:.2f}% of {len(held or [])} held-out photos identified"
    known = (
        f"A face whose best score is below {threshold:.3f} is nobody (from {len(scores):,} impostor pairs)"
        if threshold is not None
        else "Too few people to set a threshold for strangers; identify takes one from the photos it is given"
    )
    seconds = f"{summary['seconds']['all']:.0f} s, of which {summary['seconds']['faces']:.0f} s to find faces"
    first = f"{len(people)} people, {len(train)} training photos; {shown}"
    for line in (first, known, seconds, f"Written: {options['out']}"):
        console.print(line, markup=False)
    return summary


def _photos(options: Mapping[str, Any], framing: Framing, console: Console) -> tuple[ImageData, ImageData | None]:
    """Training and held-out faces: from --test or from test/ beside train/ where there is one, else a share of each person's."""
    text = options["photos"]
    if len(person_folders(text, "train")) < 2:
        raise RequestError(f"'{text}' holds photos of one person; a model needs two people or more to choose among")
    train = open_photos(text, "train", framing)
    train.tell(console)
    data = train.data
    text, split = _tested(options)
    if split == "test":
        held: Photos = open_photos(text, split, framing, data.class_names, "Finding held-out faces")
        held.tell(console)
        return data, held.data
    out = hold_out(data.labels, options["held_out"], options["seed"])
    return data.subset(~out), data.subset(out) if out.any() else None


def _tested(options: Mapping[str, Any]) -> tuple[str, str]:
    """Find the source and split of held-out photos: 'train' means a share of the training photos."""
    text = options["photos"]
    tests = Path(parse_spec(text).path or "").expanduser() / "test"
    apart = options["eval"] is not None or (is_divided(text) and tests.is_dir())
    return options["eval"] or text, "test" if apart else "train"
