"""Face networks and photos as ``delete-tasks audit`` attacks them: their features are embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from delete_images.audited import forgotten_ids, make_source, open_networks
from delete_tasks.audit.samples import AuditSource
from delete_tasks.compute import choose_device
from delete_tasks.errors import RequestError

from .datasets import framing_of
from .network import FaceNetwork
from .photos import open_photos


def open_audit(paths: Mapping[str, str], data: Mapping[str, str], options: Mapping[str, Any]) -> AuditSource | None:
    """Model folders and folders of photos, see :meth:`delete_tasks.task.Task.open_audit`; None where the original is no face
    network. A removed person's logit is minus infinity where the erased model has no row for the person.

    Raises:
        RequestError: A model or photos that cannot be opened or run together, or people that nobody knows.
    """
    networks = open_networks(paths, options)
    if networks is None or not isinstance(networks["original"][0], FaceNetwork):
        return None
    for name, (network, _) in networks.items():
        if not isinstance(network, FaceNetwork):
            raise RequestError(f"the {name} model '{paths[name]}' is no face network")
    spec = networks["original"][1]
    device = choose_device()
    framing = framing_of(spec, aligned=bool(options.get("aligned")), largest_face=True, device=device)
    photos = {
        split: open_photos(text, "test" if split == "test" else "train", framing, spec.classes).data
        for split, text in data.items()
    }
    ids = forgotten_ids(options.get("classes") or (), photos["forget"], spec.classes, data["forget"])
    return make_source(networks, photos, ids, paths, "photos")
