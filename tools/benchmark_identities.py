"""Measure seconds and peak memory of removing people from a large face model, for docs/benchmarks/faces.md.

    python tools/benchmark_identities.py --out W --identities 100000 --remove 1 50
    python tools/benchmark_identities.py --verify 100000    # photos whose pairs are compared, in place of a removal

The model is random, a small embedder of 512 numbers under a cosine head, except for the class weights of the removed people:
the cost of the size is measured, not recognition. Each removal runs the command in a process of its own, on random pictures.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from delete_faces.backbones import backbone_defaults, build_backbone
from delete_faces.gallery.enroll import embed
from delete_faces.network import FaceNetwork, build_head, describe_network
from delete_images.data.opening import open_data
from delete_images.models.model_file import ModelSpec, save_model
from delete_tasks.evaluation.verification import verification

EMBEDDING, PHOTOS, TESTED = 512, 5, 200
BACKBONE = "cifar_resnet20"


def main() -> None:
    """Make model and photos, then print a line for each number of people."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--identities", type=int, default=100_000)
    parser.add_argument("--remove", nargs="+", type=int, default=[1, 50])
    parser.add_argument("--verify", type=int, metavar="PHOTOS")
    args = parser.parse_args()
    if args.verify is not None:
        return _verify(args.verify)
    if args.out is None:
        parser.error("--out is missing: a folder for the model and the runs")
    names = [f"person_{number}" for number in range(args.identities)]
    torch.manual_seed(0)
    network = FaceNetwork(build_backbone(BACKBONE, EMBEDDING), build_head("cosine", EMBEDDING, len(names)))
    arguments = {"backbone": BACKBONE, "embedding_size": EMBEDDING, "head": "cosine"}
    default, removed = backbone_defaults(BACKBONE), names[: max(args.remove)]
    _draw(args.out / "photos", removed, PHOTOS, 0)
    _draw(args.out / "test", names[: TESTED // 4], 4, 1)
    # A run that forgets nothing publishes no model, so the class weights of the removed people are the means of their photos.
    data = open_data(str(args.out / "photos"), "train", removed)
    means = torch.zeros(len(removed), EMBEDDING)
    means.index_add_(0, torch.from_numpy(data.labels), embed(network.embedder, default.preprocessing, data))
    network.head.weight.data[: len(removed)] = torch.nn.functional.normalize(means)
    save_model(
        args.out / "model",
        network,
        describe_network(ModelSpec("", tuple(names), default.preprocessing, arguments, {"framing": default.framing})),
    )
    print("| identities | removed | seconds | processor time | peak memory |\n|---|---|---|---|---|")
    for count in args.remove:
        words = [
            "faces",
            "remove",
            "--model",
            args.out / "model",
            "--photos",
            args.out / "photos",
            "--aligned",
            "--force",
        ]
        words += ["--test", args.out / "test", "--audit", "none", "--work-dir", args.out / f"w{count}", "--overwrite"]
        words += ["--device", "cpu", "--person", *names[:count]]
        begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "delete_tasks", *map(str, words)], check=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        # The largest of all children so far, in kB: the requests come in ascending order.
        took = time.monotonic() - begin
        cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
        print(
            f"| {args.identities:,} | {count} | {took:.0f} | {cpu:.0f} | {used.ru_maxrss / 2**20:.2f} GB |", flush=True
        )


def _verify(count: int) -> None:
    """Compare all pairs of random embeddings, 20 of each person; the first ten people are the removed ones."""
    generator, labels = np.random.default_rng(0), np.arange(count) // 20
    people = generator.standard_normal((labels[-1] + 1, EMBEDDING), np.float32)
    embeddings = people[labels] + generator.standard_normal((count, EMBEDDING), np.float32)
    begin, cpu = time.monotonic(), time.process_time()
    figures = verification(embeddings, labels, range(10))
    took, cpu = time.monotonic() - begin, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{count:,} photos, {figures['impostor_pairs']:,} pairs of different people")
    print(f"{took:.0f} s, {cpu:.0f} s of processor time, peak memory {memory:.2f} GB")
    for far, at in figures["at"].items():
        print(f"FAR {far}: threshold {at['threshold']}, TAR {at['kept']}")


def _draw(folder: Path, people: list[str], count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    for person in people:
        (folder / person).mkdir(parents=True, exist_ok=True)
        base = generator.integers(0, 256, (8, 8, 3))
        for number in range(count):
            picture = np.clip(base + generator.integers(-40, 40, base.shape), 0, 255).astype(np.uint8)
            Image.fromarray(picture).resize((112, 112)).save(folder / person / f"{number}.png")


if __name__ == "__main__":
    main()
