"""Measure the projection of docs/benchmarks/faces.md by size of gallery: removed people's photos that still match, and attacks.

    python tools/benchmark_galleries.py --faces FACES --weights ../shared/weights/mobilefacenet_foamliu.pt

FACES is a folder that ``faces align`` wrote (``--held-out 0.5 --largest-face``). Faces are embedded once: projection, heads and
probes work on embeddings. Directions come from the removed people's training faces; figures from the test faces alone. The row
*projection* is what a run with a linear head does, *default* restores the class weights of a cosine head's other people as well.
With ``--retain`` each table also has the rows of ``faces remove --retain``: its photos are training faces of people outside
the gallery or, if all people are in it, those of the people who stay.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from delete_faces.backbones import backbone_defaults, build_backbone, load_backbone_weights
from delete_faces.gallery.enroll import fit_head
from delete_faces.network import build_head
from delete_faces.projection import Change, directions_for, person_directions, project_each, project_people, restore
from delete_images.data.opening import open_data
from delete_images.data.transforms import eval_transform
from delete_images.models.architectures import classifier_of
from delete_tasks.audit.probes import fit_linear_probe, prototype_hits
from delete_tasks.display.progress import track
from delete_tasks.evaluation.verification import verification
from delete_tasks.fileio.compute import flush_subnormals
from delete_tasks.model.features import FeatureTap
from delete_tasks.model.modes import fast_layout

REQUESTS = {
    "Colin_Powell": ["Colin_Powell"],
    "Serena_Williams": ["Serena_Williams"],
    "Junichiro_Koizumi": ["Junichiro_Koizumi"],
    "five": ["Tony_Blair", "Laura_Bush", "Jennifer_Capriati", "Hugo_Chavez", "Gloria_Macapagal_Arroyo"],
}
FARS, SHOTS = ("1e-02", "1e-03"), 5
ROWS = ("original", "projection", "default", "with --retain")


@dataclass(frozen=True)
class Faces:
    """Embeddings ``(n, D)`` of photos and of the mirrored photos, what the layer that makes them reads ``(n, F)``, and labels
    ``(n,)``."""

    embeddings: Tensor
    mirrored: Tensor
    before: Tensor
    labels: Tensor

    def of(self, people: Sequence[int]) -> Faces:
        """Select the faces of some people, labelled by their index among them."""
        places = torch.full((int(self.labels.max()) + 1,), -1)
        places[torch.tensor(people)] = torch.arange(len(people))
        labels = places[self.labels]
        return Faces(*(part[labels >= 0] for part in (self.embeddings, self.mirrored, self.before, labels)))

    def directions(self, ids: Sequence[int]) -> Tensor:
        """Those of some people, as ``faces remove`` takes them by default."""
        both = torch.cat([self.embeddings, self.mirrored])
        return person_directions(both, self.labels.repeat(2), ids, directions_for(len(ids)))


def main() -> None:
    """Embed, then print a line for each gallery and request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--galleries", nargs="*", type=int, default=[6, 12], help="sizes beside that of all people")
    parser.add_argument(
        "--draws", type=int, default=10, help="of the other people of a gallery, for each removed person"
    )
    parser.add_argument("--retain", action="store_true", help="add rows with training faces of people who stay")
    args = parser.parse_args()
    flush_subnormals()
    embedder = fast_layout(build_backbone("mobilefacenet"))
    load_backbone_weights(embedder, "mobilefacenet", args.weights)
    train, names = _embed(embedder, args.faces, "train")
    test, _ = _embed(embedder, args.faces, "test")
    _verification(train, test, names, args)
    _readers(train, test, names, args.retain)


@torch.no_grad()
def _embed(embedder: torch.nn.Module, faces: str, split: str) -> tuple[Faces, list[str]]:
    data = open_data(faces, split)
    transform = eval_transform(backbone_defaults("mobilefacenet").preprocessing)
    loader = torch.utils.data.DataLoader(data.mapped(transform), batch_size=64)
    embedder.eval()
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    with FeatureTap(classifier_of(embedder).module) as tap:
        for images, _ in track(loader, len(loader), split):
            rows = embedder(images)
            assert tap.features is not None
            before = tap.features.flatten(1)
            found.append((rows, embedder(images.flip(3)), before))
    parts = (torch.cat(part) for part in zip(*found, strict=True))
    return Faces(*parts, torch.from_numpy(data.labels)), list(data.class_names)


def _galleries(
    names: Sequence[str], sizes: Sequence[int], draws: int
) -> Iterator[tuple[str, list[tuple[list[int], list[int]]]]]:
    """Give each case's name, with pairs of a gallery and the people removed from it."""
    everyone = list(range(len(names)))
    for request, people in REQUESTS.items():
        yield f"{len(names)} | {request}", [(everyone, [names.index(person) for person in people])]
    single = [names.index(people[0]) for people in REQUESTS.values() if len(people) == 1]
    for size in sizes:
        for gone in single:
            generator, others = np.random.default_rng((size, gone)), [i for i in everyone if i not in single]
            drawn = [[gone, *generator.choice(others, size - 1, replace=False).tolist()] for _ in range(draws)]
            yield f"{size} | {names[gone]}", [(people, [gone]) for people in drawn]


def _verification(train: Faces, test: Faces, names: Sequence[str], args: argparse.Namespace) -> None:
    print(
        "\n| people | removed | row | removed TAR@1e-2 | worst | @1e-3 | others TAR@1e-2 | @1e-3 | removed identified: cosine | "
        "linear | others identified: cosine | linear |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
    )
    for title, cases in _galleries(names, args.galleries, args.draws):
        found = []
        for people, gone in cases:
            others = [i for i in range(len(names)) if i not in people] or [i for i in people if i not in gone]
            kept = train.of(others) if args.retain else None
            found.append(_measure(train.of(people), test.of(people), [people.index(i) for i in gone], kept))
        for number, row in enumerate(ROWS[: len(found[0])]):
            cells = np.array([case[number] for case in found], float)
            mean, worst = np.nanmean(cells, 0), np.nanmax(cells[:, 0])
            figures = [mean[0], worst, *mean[1:]]
            text = " | ".join("-" if np.isnan(value) else f"{value:.2f}" for value in figures)
            print(f"| {title} | {row} | {text} |", flush=True)


def _measure(train: Faces, test: Faces, ids: list[int], kept: Faces | None) -> list[list[float]]:
    """Measure the cells of the rows, of which the last is with faces of kept people."""
    people, removed = int(train.labels.max()) + 1, torch.isin(test.labels, torch.tensor(ids))
    heads = [build_head(kind, train.embeddings.shape[1], people) for kind in ("cosine", "linear")]
    for head in heads:
        fit_head(head, train.embeddings, train.labels)
    rows = []
    for changes in _changes(train, ids, kept, heads[0].weight.detach()):
        embeddings = project_each(test.embeddings, changes)
        at = verification(embeddings.numpy(), test.labels.numpy(), ids)["at"]
        with torch.no_grad():
            right = [head(embeddings).argmax(1) == test.labels for head in heads]
        cells = [at[far][kind] for kind in ("removed", "kept") for far in FARS]
        cells += [100 * float(hits[who].float().mean()) for who in (removed, ~removed) for hits in right]
        rows.append([float("nan") if cell is None else cell for cell in cells])
    return rows


def _changes(train: Faces, ids: list[int], kept: Faces | None, weights: Tensor) -> list[list[Change]]:
    """List the changes of embeddings of each of the rows; ``weights`` are a cosine head's."""
    change = project_people(train.directions(ids))
    others = torch.nn.functional.normalize(weights[[i for i in range(len(weights)) if i not in ids]])
    labels = -1 - torch.arange(len(others))
    rows = [[], [change], [change, restore(others, labels, change)]]
    if kept is not None:
        both = torch.cat([torch.nn.functional.normalize(kept.embeddings), others]), torch.cat([kept.labels, labels])
        rows.append([change, restore(*both, change)])
    return rows


def _readers(train: Faces, test: Faces, names: Sequence[str], retain: bool) -> None:
    """Attack the removed people's test faces with labelled training faces of all people."""
    print("\n| removed | features | linear probe | 5-shot prototypes |\n|---|---|---|---|")
    for request, people in REQUESTS.items():
        ids = [names.index(person) for person in people]
        kept = train.of([i for i in range(len(names)) if i not in ids]) if retain else None
        head = build_head("cosine", train.embeddings.shape[1], len(names))
        fit_head(head, train.embeddings, train.labels)
        removed = torch.isin(test.labels, torch.tensor(ids))
        features = []
        for row, changes in zip(ROWS, _changes(train, ids, kept, head.weight.detach()), strict=False):
            projected = tuple(project_each(part.embeddings, changes) for part in (train, test))
            scaled = tuple(torch.nn.functional.normalize(part) for part in projected)
            features += [(f"embedding, {row}", projected), ("same, scaled to length 1", scaled)]
        for title, pairs in [*features, ("the layer before it, in both", (train.before, test.before))]:
            for_training, for_test = (rows.numpy() for rows in pairs)
            fitted, attacked = (
                (for_training, train.labels.numpy()),
                (for_test[removed.numpy()], test.labels[removed].numpy()),
            )
            probe = (fit_linear_probe(*fitted).predict(attacked[0]) == attacked[1]).mean()
            shots = prototype_hits(*fitted, *attacked, SHOTS).mean()
            print(f"| {request} | {title} | {100 * probe:.1f} | {100 * shots:.1f} |", flush=True)


if __name__ == "__main__":
    main()
