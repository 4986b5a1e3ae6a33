"""The commands ``faces import``, of a model that is there already, with its identity head or a gallery, and ``faces embed``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from delete_images.models.model_file import ModelSpec, load_model, save_model
from delete_tasks.errors import CheckpointMismatchError, RequestError
from delete_tasks.fileio.atomic import replacing_folder, save_json
from delete_tasks.fileio.checkpoint import load_file, load_state, state_dict_of
from delete_tasks.fileio.compute import choose_device, flush_subnormals

from ..backbones import backbone_defaults, build_backbone
from ..checks import check_numbers
from ..datasets import framing_for
from ..enrolment import NAME as ENROLMENT
from ..enrolment import describe_photos
from ..heads import Head, build_head
from ..network import FaceNetwork, check_face_network, describe_network
from ..photos import open_photos
from .enroll import embed, stranger_threshold
from .gallery import NAME as GALLERY
from .gallery import Gallery, read_gallery

SCALE = 64.0  # of the logits of ArcFace (arXiv 1801.07698, section 3.1) and of most heads that are published with it


def import_model(options: Mapping[str, Any], console: Console) -> dict[str, Any]:
    """Make a model folder from somebody's files; the function behind the command.

    Args:
        options: ``weights, backbone, embedding_size, backbone_arguments, head_weights, head, scale, names, gallery, photos,
            aligned, largest_face, out, allow_import``, as on the command line.
        console: For the summary.

    Returns:
        ``people``, ``head``, ``scale`` and ``threshold`` of the model.

    Raises:
        RequestError: Both a head and a gallery, neither, or parts that do not fit each other.
        CheckpointMismatchError: Weights that do not fit the backbone.
    """
    check_numbers(options, "scale", "embedding_size")
    if options["gallery"] is not None and options["head_weights"] is not None:
        raise RequestError("--gallery and --head-weights both make the identity head; give one of them")
    name, default = options["backbone"], backbone_defaults(options["backbone"])
    arguments = dict(options["backbone_arguments"])
    state = state_dict_of(load_file(options["weights"]), f"'{options['weights']}'")
    if name == "inception_resnet_v1" and options["gallery"] is None:
        arguments.setdefault("normalize", False)  # its own classifier reads embeddings of any length
    embedder = build_backbone(name, options["embedding_size"], arguments, allow_import=options["allow_import"]).eval()
    rest = _load_embedder(embedder, state, options["weights"])
    with torch.no_grad():
        side = default.preprocessing.size
        size = embedder(torch.zeros(1, 3, *side)).shape[1]
    gallery = None
    if options["gallery"] is not None:
        gallery = read_gallery(options["gallery"])
        if gallery.embeddings.shape[1] != size:
            raise RequestError(
                f"templates in '{options['gallery']}' have {gallery.embeddings.shape[1]} numbers, embeddings of '{name}' {size}; "
                "give the gallery that this backbone made"
            )
        people, head = gallery.people, _head_of("cosine", gallery.rows(gallery.people), None, options["scale"])
    else:
        if options["head_weights"] is not None:
            rest = state_dict_of(load_file(options["head_weights"]), f"'{options['head_weights']}'")
        weight, bias = _find_head(rest, size, options["head_weights"] or options["weights"])
        people = _names(options["names"], len(weight))
        head = _head_of(options["head"] or ("linear" if bias is not None else "cosine"), weight, bias, options["scale"])
    scale = getattr(head, "scale", None)
    kind = "linear" if scale is None else "cosine"
    described: dict[str, Any] = {"backbone": name, "embedding_size": size, "head": kind}
    described |= {} if scale is None else {"scale": scale}
    described |= {"backbone_arguments": arguments} if arguments else {}
    threshold = None if gallery is None else _threshold(head, gallery)
    extra = {"framing": default.framing, "threshold": threshold}
    spec = describe_network(ModelSpec("", tuple(people), default.preprocessing, described, extra))
    noted = None
    if options["photos"] is not None:
        noted = {"held_out": [], "source": describe_photos(options["photos"], options["photos"], "test", options)}
    with replacing_folder(options["out"]) as folder:
        save_model(folder, FaceNetwork(embedder, head), spec)
        if gallery is not None:
            gallery.save(folder / GALLERY)
        if noted is not None:
            save_json(noted, folder / ENROLMENT)
    templates = "" if gallery is None else f" from {len(gallery.names):,} templates"
    console.print(f"{len(people):,} people, {kind} head{templates}, embeddings of {size} numbers", markup=False)
    console.print(f"Written: {options['out']}", markup=False)
    return {"people": len(people), "head": kind, "scale": scale, "threshold": threshold}


def embed_photos(options: Mapping[str, Any], console: Console) -> Gallery:
    """Write a gallery: the embedding of each photo, of length 1, with its person's name; the function behind ``faces embed``.

    Args:
        options: ``model, photos, out, aligned, largest_face, allow_import, device, processes``, as on the command line.
        console: For the summary.

    Raises:
        RequestError: As :func:`delete_faces.photos.open_photos`.
    """
    flush_subnormals()
    network, spec = load_model(options["model"], options["allow_import"])
    network = check_face_network(network, f"'{options['model']}'")
    device = choose_device(options["device"])
    framing = framing_for(spec, options, device)
    photos = open_photos(options["photos"], "train", framing)
    photos.tell(console)
    rows = nn.functional.normalize(embed(network.embedder.to(device), spec, photos.data))
    gallery = Gallery(rows.numpy(), [photos.data.class_names[label] for label in photos.data.labels], {})
    gallery.save(options["out"])
    console.print(f"{len(gallery.names):,} templates of {len(gallery.people):,} people", markup=False)
    console.print(f"Written: {options['out']}", markup=False)
    return gallery


def _load_embedder(embedder: nn.Module, state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Load the embedder's part of a state dict, which may stand under a prefix ('backbone.'), strictly.

    Returns:
        What else the file holds.
    """
    own = [key for key in embedder.state_dict() if not key.endswith(".num_batches_tracked")]
    prefixes = {key[: -len(own[0])] for key in state if key.endswith(own[0])} or {""}
    prefix = max(sorted(prefixes), key=lambda text: sum(text + key in state for key in own))
    counters = {key: value for key, value in embedder.state_dict().items() if key.endswith(".num_batches_tracked")}
    wanted = {key: state[prefix + key] for key in embedder.state_dict() if prefix + key in state}
    load_state(embedder, {**counters, **wanted}, f"'{source}'")
    return {key: value for key, value in state.items() if key.removeprefix(prefix) not in wanted}


def _find_head(rest: Mapping[str, Tensor], size: int, source: str) -> tuple[Tensor, Tensor | None]:
    """Find the identity head's weights ``(C, D)`` and its bias ``(C,)``, if it has one, among tensors beside the embedder's.

    Raises:
        RequestError: None, or several, that could be it.
    """
    found = {key: value for key, value in rest.items() if value.ndim == 2 and size in value.shape}
    if len(found) != 1:
        listed = ", ".join(f"{key} {tuple(value.shape)}" for key, value in list(rest.items())[:8]) or "nothing"
        raise RequestError(
            f"'{source}' holds {len(found)} tensors (C, {size}) beside the embedder's, and the identity head is one; there is "
            f"{listed}. Give the head's file with --head-weights, or templates with --gallery"
        )
    ((key, weight),) = found.items()
    if weight.shape[1] != size:  # some keep a person in each column
        weight = weight.T
    bias = rest.get(f"{key.removesuffix('weight')}bias")
    if not torch.isfinite(weight).all() or (bias is not None and bias.shape != weight.shape[:1]):
        raise CheckpointMismatchError(f"'{source}': the head '{key}' holds NaN or infinity, or a bias of another size")
    return weight.float().contiguous(), None if bias is None else bias.float()


def _head_of(kind: str, weight: Tensor, bias: Tensor | None, scale: float | None) -> Head:
    if kind == "linear" and scale is not None:
        raise RequestError("a linear head has no scale; leave --scale out, or give --head cosine")
    if kind == "cosine" and bias is not None:
        raise RequestError("the head has a bias, which a cosine head has not; give --head linear, or leave it out")
    head = build_head(kind, weight.shape[1], len(weight), (scale or SCALE) if kind == "cosine" else None)
    head.weight.data = weight
    if kind == "linear":
        head.bias.data = torch.zeros(len(weight)) if bias is None else bias  # type: ignore[union-attr]
    return head


def _names(path: str | None, count: int) -> tuple[str, ...]:
    """People in the order of the head's rows: a line each, or a JSON list; without a file 'person_0' and so on.

    Raises:
        RequestError: Not as many as there are rows, or one twice.
    """
    if path is None:
        return tuple(f"person_{number}" for number in range(count))
    text = Path(path).read_text(encoding="utf-8")
    names = json.loads(text) if path.endswith(".json") else [line.strip() for line in text.splitlines() if line.strip()]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RequestError(f"'{path}' is no list of names; write a name a line, or a JSON list of text")
    if len(names) != count or len(set(names)) != count:
        raise RequestError(
            f"'{path}' holds {len(names)} names, {len(set(names))} of them different, and the head has {count} rows; name each "
            "person once, in the order of the rows"
        )
    return tuple(names)


def _threshold(head: Head, gallery: Gallery) -> float | None:
    """Below which a face is nobody: from templates and the rows of other people, which are means and know nothing of them."""
    place = {name: number for number, name in enumerate(gallery.people)}
    chosen = torch.linspace(0, len(gallery.names) - 1, min(len(gallery.names), 2000)).long()
    unit = torch.from_numpy(gallery.embeddings[chosen.numpy()].astype("float32"))
    own = torch.tensor([place[gallery.names[i]] for i in chosen.tolist()])
    others = torch.randperm(len(place), generator=torch.Generator().manual_seed(0))[:2000]
    with torch.no_grad():
        cosines = nn.functional.normalize(unit) @ nn.functional.normalize(head.weight[others]).T
    return stranger_threshold(cosines[own[:, None] != others[None, :]], len(place))
