"""Count the strangers that `faces identify` names and the photos of enrolled people that it misses, for docs/benchmarks/faces.md.

    python tools/benchmark_strangers.py --photos ../shared/data/lfw --weights ../shared/weights/mobilefacenet_foamliu.pt

Galleries are drawn at random from the people of --photos; all others are strangers. LFW's photos are aligned to each other, so
that one crop frames all faces.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from delete_faces.backbones import backbone_defaults, build_backbone, load_backbone_weights
from delete_faces.gallery.enroll import embed, fit_head, impostor_scores, stranger_threshold
from delete_faces.network import build_head
from delete_images.data.opening import ImageData, open_data
from delete_tasks.fileio.compute import flush_subnormals

CROP, SIDE = (slice(56, 180), slice(63, 187)), 112


def main() -> None:
    """Embed all photos once, then print a line for each kind and size of gallery."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--people", nargs="+", type=int, default=[3, 12, 30])
    parser.add_argument("--each", nargs="+", type=int, default=[1, 4, 10], help="photos of each person")
    parser.add_argument("--draws", type=int, default=10)
    args = parser.parse_args()
    flush_subnormals()
    embeddings, labels = _embeddings(Path(args.photos), args.weights)
    print("| head | people | photos of each | impostor pairs | strangers named | missed |\n|---|---|---|---|---|---|")
    for kind in ("cosine", "linear"):
        for people in args.people:
            for each in args.each:
                generator = np.random.default_rng(1)
                draws = [_draw(kind, people, each, embeddings, labels, generator) for _ in range(args.draws)]
                print(f"| {kind} | {people} | {each} | {_cells([draw for draw in draws if draw is not None])} |")


def _cells(draws: list[tuple[int, float, float]]) -> str:
    if not draws:
        return "none | no threshold | no threshold"
    pairs, named, missed = zip(*draws, strict=True)
    return f"{pairs[0]:,} | " + " | ".join(f"{np.mean(v):.1f}% ({np.max(v):.1f})" for v in (named, missed))


def _embeddings(photos: Path, weights: str) -> tuple[torch.Tensor, np.ndarray]:
    from PIL import Image

    data = open_data(str(photos))
    crops = [
        Image.fromarray(data[i][0][CROP]).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for i in range(len(data))
    ]
    faces = ImageData.from_arrays(np.stack([np.asarray(face) for face in crops]), data.labels, data.class_names)
    model = build_backbone("mobilefacenet")
    load_backbone_weights(model, "mobilefacenet", weights)
    return embed(model, backbone_defaults("mobilefacenet").preprocessing, faces), data.labels


def _draw(
    kind: str, people: int, each: int, embeddings: torch.Tensor, labels: np.ndarray, generator: np.random.Generator
) -> tuple[int, float, float] | None:
    """Measure one gallery: impostor pairs, percent of strangers named and percent of enrolled people's other photos missed.

    A quarter of each person's photos is held out from the head, as in `enroll`; None if there is no threshold.
    """
    chosen = generator.permutation(labels.max() + 1)[:people]
    trained = each - each // 4
    places = [generator.permutation(np.flatnonzero(labels == person))[:each] for person in chosen]
    train, all_of = np.concatenate([p[:trained] for p in places]), np.concatenate(places)
    enrolled = np.full(labels.max() + 1, -1)
    enrolled[chosen] = np.arange(people)
    head = build_head(kind, embeddings.shape[1], people)
    train_labels = torch.from_numpy(enrolled[labels[train]])
    fit_head(head, embeddings[train], train_labels)
    scores = impostor_scores(
        head, embeddings[train], train_labels, embeddings[all_of], torch.from_numpy(enrolled[labels[all_of]])
    )
    threshold = stranger_threshold(scores, people)
    if threshold is None:
        return None
    with torch.no_grad():
        cosines = head.scores(head(embeddings)).numpy()
    strangers = np.flatnonzero(enrolled[labels] < 0)
    others = np.setdiff1d(np.flatnonzero(enrolled[labels] >= 0), all_of)
    missed = cosines[others, enrolled[labels[others]]] < threshold
    return len(scores), 100 * float((cosines[strangers].max(1) >= threshold).mean()), 100 * float(missed.mean())


if __name__ == "__main__":
    main()
