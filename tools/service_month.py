"""A month of a deletion service for faces, by the commands of docs/guides/faces.md, for several choices of people.

    python tools/service_month.py --faces FACES --weights ../shared/weights/mobilefacenet_foamliu.pt --out OUT

FACES is a folder that ``faces align`` wrote (``--held-out 0.5 --largest-face``). For each choice people are enrolled and their
templates stored in PostgreSQL, the photos are deleted, one person is removed by stored templates, one by photos, five at once by
stored templates, and a person is added. OUT/CHOICE/transcript.txt holds what the commands print. Figures are of held-out photos,
which no command but the evaluation reads. Choices that OUT/figures.json has are not made again.
"""

import argparse
import contextlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from delete_faces.gallery.enroll import embed
from delete_faces.gallery.gallery import read_gallery
from delete_faces.stores import open_store
from delete_images.data.opening import ImageData, open_data
from delete_images.models.model_file import load_model
from delete_tasks.cli import main as delete_tasks
from delete_tasks.errors import require
from delete_tasks.evaluation.verification import matched_pairs, verification
from delete_tasks.fileio.atomic import save_json, save_text

REQUESTS = (1, 1, 5)  # people who are removed by each; the second by photos, the others by stored templates
REMOVED = sum(REQUESTS)
FAR = "1e-03"


class Service:
    """The service's folder, with its model, photos and requests, and its table in PostgreSQL, with pgvector."""

    def __init__(self, folder: Path, faces: Path, database: str, people: Sequence[str], added: str) -> None:
        self.folder, self.faces, self.people, self.added = folder, faces, list(people), added
        self.database, self.table = database, f"faces_{folder.name}"
        self.store = f"{database}{'&' if '?' in database else '?'}table={self.table}"
        self.seconds: list[float] = []
        if folder.exists():
            raise SystemExit(
                f"'{folder}' is of a month that did not end; delete it, and the table {self.table} of the database"
            )
        folder.mkdir(parents=True)
        self._copy("photos", people, "train")
        self._copy("held_out", people, "test")

    def _copy(self, name: str, people: Sequence[str], split: str) -> None:
        for person in people:
            shutil.copytree(self.faces / split / person, self.folder / name / split / person)

    def run(self, words: str) -> None:
        """Run a command in the folder, with its output in the transcript."""
        command, here = words.split(), os.getcwd()
        with open(self.folder / "transcript.txt", "a") as file, contextlib.redirect_stdout(file):
            print(f"\n$ delete-tasks {' '.join(command)}", flush=True)
            os.chdir(self.folder)
            try:
                with contextlib.redirect_stderr(file):
                    ended = delete_tasks(command)
            finally:
                os.chdir(here)
        if ended:
            raise SystemExit(f"status {ended} of {' '.join(command)}; see {self.folder / 'transcript.txt'}")

    def store_templates(self, path: Path, new: bool = False) -> None:
        """Insert the templates of a gallery, into a new table or the service's; a table that is there is not taken."""
        gallery = read_gallery(path, least=1)
        with require("psycopg", "postgresql").connect(self.database) as connection:
            if new:
                connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
                size = gallery.embeddings.shape[1]
                connection.execute(f"CREATE TABLE {self.table} (name text, embedding vector({size}))")
            insert = f"INSERT INTO {self.table} VALUES (%s, %s::vector)"
            rows = zip(gallery.names, (str(row) for row in gallery.embeddings.tolist()), strict=True)
            connection.cursor().executemany(insert, list(rows))

    def month(self, weights: Path) -> None:
        """Enrol, remove, and add."""
        self.run(f"faces enroll --photos photos --aligned --weights {weights.resolve()} --test held_out --out model")
        self.run("faces embed --model model --photos photos --aligned --out templates.npz")
        self.store_templates(self.folder / "templates.npz", new=True)
        shutil.rmtree(self.folder / "photos")
        (self.folder / "templates.npz").unlink()
        people, model = iter(self.people), "model"
        for number, count in enumerate(REQUESTS, 1):
            gone, begin = [next(people) for _ in range(count)], time.process_time()
            what = f"--from-templates {self.store}"
            if number == 2:  # this person sends photos
                self._copy("sent", gone, "train")
                what = "--photos sent"
            request = f"--person {' '.join(gone)} {what} --retain {self.store} --aligned --test held_out --audit none"
            self.run(f"faces remove --model {model} {request} --work-dir W{number}")
            carry = f"--original {model} --erased W{number}/erased --overwrite --receipt receipt{number}.json"
            self.run(f"faces update {self.store} {carry}")
            model = f"W{number}/erased"
            self.seconds.append(time.process_time() - begin)
        self._copy("new", [self.added, *self.people[:REMOVED]], "train")  # photos of people removed before are left out
        self.run(f"faces embed --model {model} --photos new --aligned --out new.npz")
        self.store_templates(self.folder / "new.npz")
        for number in range(1, len(REQUESTS) + 1):
            self.run(f"record verify W{number}")

    def figures(self) -> dict[str, Any]:
        """Measure the held-out photos by the first and the last model, and the store's templates by the last."""
        models = [load_model(self.folder / path) for path in ("model", f"W{len(REQUESTS)}/erased")]
        data, names = self._open("test", [*self.people, self.added])
        rows = [embed(network.embedder, spec, data).numpy() for network, spec in models]
        labels = np.array([[*self.people, self.added].index(name) for name in names])
        gone, added = range(REMOVED), len(self.people)
        old = labels != added  # people who are there from the start
        at = [verification(each[old], labels[old], gone)["at"][FAR] for each in rows]
        if None in (each["kept"] for each in at):
            raise SystemExit(f"too few pairs of people who stay for FAR {FAR}; enrol more people")
        pairs = matched_pairs(rows, labels, [each["threshold"] for each in at])

        def rates(person: int) -> list[float]:
            table = pairs[person]
            return [100 * float(table.sum(axis)[1] / table.sum()) for axis in (1, 0)]

        people = {name: rates(person) for person, name in enumerate([*self.people, self.added])}
        removed = np.array([people[name] for name in self.people[:REMOVED]])
        return {
            "removed": removed.mean(0).tolist(),
            "worst": removed.max(0).tolist(),
            "kept": [each["kept"] for each in at],
            "added": people[self.added],
            "least_cosine": self._least_cosine(*models[1]),
            "seconds": self.seconds,
            "people": people,
        }

    def _open(self, split: str, people: Sequence[str]) -> tuple[ImageData, NDArray[np.str_]]:
        """Open photos of people; give the name of each."""
        data = open_data(f"{self.faces}?class={','.join(people)}", split)
        return data, np.array([data.class_names[label] for label in data.labels])

    def _least_cosine(self, network: Any, spec: Any) -> float:
        """Compare the store's templates with the photos, embedded by the last model; each must be there, and no other."""
        people = [*self.people[REMOVED:], self.added]
        data, names = self._open("train", people)
        again = F.normalize(embed(network.embedder, spec, data))
        with open_store(self.store) as store:
            found = store.read(people)
            if dict(store.people()) != Counter(names.tolist()):
                raise SystemExit(f"the store holds {dict(store.people())}")
        least = 1.0
        for person in people:
            theirs = torch.from_numpy(found.embeddings[np.array(found.names) == person])
            least = min(least, float((theirs @ again[torch.from_numpy(names == person)].T).max(1).values.min()))
        return least


def table(figures: dict[str, Any]) -> str:
    """Write a line for each choice, and their mean, in Markdown."""
    lines = [
        f"| choice | removed: TAR@{FAR} before | after | worst person | kept: before | after | change | added | least cosine | "
        "processor time a request |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    rows = {}
    for name, each in figures.items():
        before, after = each["kept"]
        rows[name] = [*each["removed"], each["worst"][1], before, after, after - before, each["added"][1]]
        rows[name] += [each["least_cosine"], float(np.mean(each["seconds"]))]
    if len(rows) > 1:
        rows["mean"] = np.mean(list(rows.values()), 0).tolist()
    for name, (*shares, cosine, seconds) in rows.items():
        lines.append(f"| {name} | {' | '.join(f'{share:.2f}' for share in shares)} | {cosine:.5f} | {seconds:.0f} s |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make the months that are not made yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--people", type=int, default=40, help="people who are enrolled")
    parser.add_argument("--choices", type=int, default=10)
    parser.add_argument("--database", help="connection URI. [default: a server of the package pgserver, in OUT/pg]")
    args = parser.parse_args()
    names, kept = sorted(path.name for path in (args.faces / "train").iterdir()), args.out / "figures.json"
    if not REMOVED < args.people < len(names):
        parser.error(f"--people {args.people}: expected {REMOVED + 1} to {len(names) - 1}, of {len(names)} in --faces")
    figures = json.loads(kept.read_text()) if kept.is_file() else {}
    args.out.mkdir(parents=True, exist_ok=True)
    uri = args.database or require("pgserver", "dev").get_server(args.out / "pg", cleanup_mode="stop").get_uri()
    for choice in range(args.choices):
        if str(choice) in figures:
            continue
        drawn = np.random.default_rng(choice).permutation(names)[: args.people + 1].tolist()
        service = Service(args.out / str(choice), args.faces, uri, drawn[:-1], drawn[-1])
        service.month(args.weights)
        figures[str(choice)] = service.figures()
        save_json(figures, kept)
    save_text(table(figures), args.out / "table.md")
    print(table(figures))


if __name__ == "__main__":
    main()
