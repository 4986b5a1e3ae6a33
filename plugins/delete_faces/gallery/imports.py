"""The commands ``faces import``, which makes a model from an embedder with a head or gallery, and ``faces embed``."""

from collections.abc import Mapping
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from delete_images.models.model_file import ModelSpec, batch_counters, save_model
from delete_tasks.errors import CheckpointMismatchError, RequestError
from delete_tasks.fileio.atomic import replacing_folder, save_json
from delete_tasks.fileio.checkpoint import load_file, load_state, state_dict_of
from delete_tasks.fileio.compute import choose_device, flush_subnormals
from delete_tasks.fileio.inputs import read_text
from delete_tasks.fileio.validate import as_type, parse_json

from ..backbones import ONNX, open_backbone
from ..datasets import framing_for
from ..enrolment import GALLERY, describe_photos, without_removed
from ..enrolment import NAME as ENROLMENT
from ..network import FaceNetwork, Head, LinearHead, build_head, describe_network, load_face_network
from ..photos import open_photos
from .enroll import embed, stranger_threshold
from .gallery import Gallery, check_size, read_gallery

SCALE = 64.0  # of the logits of ArcFace (arXiv 1801.07698, section 3.1) and of most heads that are published with it


def import_model(options: Mapping[str, Any], console: Console) -> None:
    """Make a model folder from an embedder's file, and a head or a gallery; ``options`` are the command's, by name. Refuse both a
    head and a gallery, neither, parts that do not fit each other, and weights that do not fit the backbone."""
    if options["gallery"] is not None and options["head_weights"] is not None:
        raise RequestError("--gallery and --head-weights both make the identity head; give one of them")
    own = options["backbone"] == "inception_resnet_v1" and options["gallery"] is None
    # Its own classifier reads embeddings of any length.
    embedder, name, arguments, default = open_backbone(options, **({"normalize": False} if own else {}))
    rest = {} if name == ONNX else _load_embedder(embedder, options["weights"])
    embedder.eval()
    with torch.no_grad():
        size = embedder(torch.zeros(1, 3, *default.preprocessing.size)).shape[1]
    gallery, threshold = None, None
    if options["gallery"] is not None:
        gallery = read_gallery(options["gallery"])
        check_size(gallery, size, options["gallery"])
        people = gallery.people
        head = _make_head("cosine", gallery.class_weights(people), None, options["scale"])
        threshold = _threshold(head, gallery)
    else:
        if options["head_weights"] is not None:
            rest = state_dict_of(load_file(options["head_weights"]), f"'{options['head_weights']}'")
        weight, bias = _find_head(rest, size, options["head_weights"] or options["weights"])
        people = _read_names(options["names"], len(weight))
        kind = options["head"] or ("cosine" if bias is None else "linear")
        head = _make_head(kind, weight, bias, options["scale"])
    scale, photos = getattr(head, "scale", None), options["photos"]
    kind = "linear" if scale is None else "cosine"
    described = dict(backbone=name, embedding_size=size, head=kind, scale=scale, backbone_arguments=arguments)
    extra = {"framing": default.framing, "threshold": threshold}
    spec = describe_network(ModelSpec("", people, default.preprocessing, described, extra))
    with replacing_folder(options["out"]) as folder:
        save_model(folder, FaceNetwork(embedder, head), spec)
        if gallery is not None:
            gallery.save(folder / GALLERY)
        if photos is not None:
            save_json({"held_out": [], "source": describe_photos(photos, photos, "test", options)}, folder / ENROLMENT)
    templates = "" if gallery is None else f" from {len(gallery.names):,} templates"
    console.print(
        f"{len(people):,} people, {kind} head{templates}, embeddings of {size} numbers\nWritten: {options['out']}"
    )


def embed_photos(options: Mapping[str, Any], console: Console) -> None:
    """Write a gallery: the embedding of each photo, of length 1, with its person's name; ``options`` are the command's."""
    flush_subnormals()
    network, spec = load_face_network(options)
    device = choose_device(options["device"])
    photos = without_removed(options["photos"], "train", spec)
    data = open_photos(photos, "train", framing_for(spec, options, device), console=console).data
    embeddings = nn.functional.normalize(embed(network.embedder.to(device), spec.preprocessing, data))
    gallery = Gallery(embeddings.numpy(), [data.class_names[label] for label in data.labels], {})
    gallery.save(options["out"])
    console.print(f"Templates: {len(gallery.names):,}. People: {len(gallery.people):,}\nWritten: {options['out']}")


def _load_embedder(embedder: nn.Module, path: str) -> dict[str, Tensor]:
    """Load the embedder's part of a file, whose names may have a prefix ('backbone.'), strictly; return the other tensors."""
    own, state = embedder.state_dict(), state_dict_of(load_file(path), f"'{path}'")
    counters = batch_counters(own)
    keys = [key for key in own if key not in counters]
    prefixes = {key[: -len(keys[0])] for key in state if key.endswith(keys[0])} or {""}
    prefix = max(sorted(prefixes), key=lambda text: sum(text + key in state for key in keys))
    part = {key: state[prefix + key] for key in own if prefix + key in state}
    load_state(embedder, {**counters, **part}, f"'{path}'")
    return {key: value for key, value in state.items() if key.removeprefix(prefix) not in part}


def _find_head(state: Mapping[str, Tensor], size: int, source: str) -> tuple[Tensor, Tensor | None]:
    """Find the head's weights ``(C, D)`` and bias ``(C,)`` or None in a state dict; refuse one without, or with several."""
    candidates = {key: value for key, value in state.items() if value.ndim == 2 and size in value.shape}
    if len(candidates) != 1:
        listed = ", ".join(f"{key} {tuple(value.shape)}" for key, value in list(state.items())[:8]) or "nothing"
        raise RequestError(
            f"'{source}' holds {len(candidates)} tensors (C, {size}) beside the embedder's; expected one, the identity head. "
            f"There is {listed}. Give the head's file with --head-weights, or templates with --gallery"
        )
    ((key, weight),) = candidates.items()
    if weight.shape[1] != size:  # one column per person
        weight = weight.T
    bias = state.get(f"{key.removesuffix('weight')}bias")
    if not torch.isfinite(weight).all() or (bias is not None and bias.shape != weight.shape[:1]):
        raise CheckpointMismatchError(f"'{source}': the head '{key}' holds NaN or infinity, or a bias of another size")
    return weight.float().contiguous(), None if bias is None else bias.float()


def _make_head(kind: str, weight: Tensor, bias: Tensor | None, scale: float | None) -> Head:
    if kind == "cosine" and bias is not None:
        raise RequestError("the head has a bias, and a cosine head has none; give --head linear, or leave --head out")
    head = build_head(kind, weight.shape[1], len(weight), scale or (SCALE if kind == "cosine" else None))
    head.weight.data = weight
    if isinstance(head, LinearHead):
        head.bias.data = torch.zeros(len(weight)) if bias is None else bias
    return head


def _read_names(path: str | None, count: int) -> tuple[str, ...]:
    """Read the people in order of the head's outputs: one per line, or a JSON list; without a file, person_0 and so on."""
    if path is None:
        return tuple(f"person_{number}" for number in range(count))
    try:
        text = read_text(path)
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        content = parse_json(text) if path.endswith(".json") else lines
    except ValueError as error:
        raise RequestError(f"'{path}' is no list of names ({error}); expected UTF-8, a name a line, or JSON") from error
    names: list[str] = as_type(content, list[str], f"'{path}'")
    if len(names) != count or len(set(names)) != count:
        raise RequestError(
            f"'{path}' holds {len(names)} names, {len(set(names))} of them different, and the head has {count} rows; name each "
            "person once, in the order of the rows"
        )
    return tuple(names)


def _threshold(head: Head, gallery: Gallery) -> float | None:
    """Compute the threshold for strangers from templates and other people's class weights, which are independent of them."""
    index = {name: number for number, name in enumerate(gallery.people)}
    chosen = torch.linspace(0, len(gallery.names) - 1, min(len(gallery.names), 2000)).long()
    templates = torch.from_numpy(gallery.embeddings[chosen.numpy()].astype("float32"))
    own = torch.tensor([index[gallery.names[i]] for i in chosen.tolist()])
    others = torch.randperm(len(index), generator=torch.Generator().manual_seed(0))[:2000]
    with torch.no_grad():
        cosines = nn.functional.normalize(templates) @ nn.functional.normalize(head.weight[others]).T
    return stranger_threshold(cosines[own[:, None] != others[None, :]], len(index))
