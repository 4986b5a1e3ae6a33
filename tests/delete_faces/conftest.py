"""Eight people of LFW, cut to the face without a detector, and a model that knows them."""

import sys
from pathlib import Path

import pytest
from helpers import argv, run
from mmengine.config import Config
from PIL import Image

PEOPLE = ("Ariel_Sharon", "Colin_Powell", "George_W_Bush", "Kofi_Annan", "Laura_Bush", "Serena_Williams", "Tiger_Woods",
          "Vladimir_Putin")  # fmt: skip
CROP = (63, 56, 187, 180)  # of LFW's 250x250 photos, which are aligned to each other
TRAIN, TEST = 5, 6  # photos a person


@pytest.fixture(scope="session")
def people() -> tuple[str, ...]:
    return PEOPLE


@pytest.fixture(scope="session")
def lfw(shared) -> Path:
    return shared / "data" / "lfw"


@pytest.fixture(scope="session")
def cut_faces(lfw):
    """``cut_faces(folder, people, train, test, side)``: photos of LFW, cut to the face, in train/ and test/."""

    def cut(folder: Path, people=PEOPLE, train=TRAIN, test=TEST, side=112) -> Path:
        for person in people:
            for number, photo in enumerate(sorted((lfw / person).glob("*.jpg"))[: train + test]):
                path = folder / ("train" if number < train else "test") / person / f"{photo.stem}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                with Image.open(photo) as image:
                    image.crop(CROP).resize((side, side), Image.Resampling.BILINEAR).save(path)
        return folder

    return cut


@pytest.fixture
def bad_photos(lfw, tmp_path) -> Path:
    """A folder with ``wall.jpg`` without a face, ``pair.jpg`` with two, and ``half.jpg``, which is torn."""
    folder, photo = tmp_path / "bad", lfw / "Colin_Powell" / "Colin_Powell_0001.jpg"
    folder.mkdir()
    Image.new("RGB", (250, 250), (90, 90, 90)).save(folder / "wall.jpg")
    with Image.open(photo) as face:
        pair = Image.new("RGB", (500, 250))
        pair.paste(face, (0, 0))
        pair.paste(face, (250, 0))
    pair.save(folder / "pair.jpg")
    (folder / "half.jpg").write_bytes(photo.read_bytes()[: photo.stat().st_size // 2])
    return folder


@pytest.fixture(scope="session")
def faces(cut_faces, once) -> Path:
    """Photos of eight people."""
    return once("eight_people")(cut_faces)


@pytest.fixture(scope="session")
def weights(shared) -> Path:
    return shared / "weights" / "mobilefacenet_foamliu.pt"


@pytest.fixture(scope="session", params=["cosine", "linear"])
def head(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def models(faces, weights, once) -> dict[str, Path]:
    """Model folders by head."""

    @once("face_models")
    def folder(folder: Path) -> None:
        for kind in ("cosine", "linear"):
            run("faces enroll --photos", faces, "--aligned --weights", weights, "--head", kind, "--out", folder / kind)

    return {kind: folder / kind for kind in ("cosine", "linear")}


@pytest.fixture(scope="session")
def removal(models, faces):
    """``removal(work_dir, *more)``: words of a run that removes Colin_Powell from a model."""

    def words(work_dir: Path, *more: object, model: Path | None = None, photos: Path = faces) -> list[str]:
        command = argv("faces remove --person Colin_Powell --model", model or models["cosine"], "--photos", photos)
        return argv(command, "--aligned --work-dir", work_dir, *more)

    return words


@pytest.fixture
def config(models, faces, repository, tmp_path, monkeypatch):
    """``config(**dataset)``: config of a run that removes Colin_Powell, with options of its dataset."""
    monkeypatch.setenv("DELETE_TASKS_FACES", str(models["cosine"]))

    def load(**dataset: object) -> Config:
        cfg = Config.fromfile(str(repository / "configs/faces/mobilefacenet_lfw_forget-person.py"))
        cfg.train_dataloader.dataset.update(data=f"{faces}?class=Colin_Powell", aligned=True, **dataset)
        cfg.work_dir, cfg.log_level = str(tmp_path / "config"), "WARNING"
        return cfg

    return load


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """URI of a PostgreSQL server with pgvector on a local socket."""
    if sys.version_info >= (3, 13):
        pytest.skip("pgserver has no wheel for this Python")
    import pgserver

    for last in (False, True):
        try:
            server = pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="stop")
            break
        except Exception as error:  # of the system: no user to run it as, no shared memory, more than 10 s
            if last:
                pytest.skip(f"no PostgreSQL server could be started: {error}")
    server.psql("CREATE EXTENSION vector")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture
def database(postgres):
    """``database(type, names, templates)``: the string of a new table of templates, with a serial number for each."""
    import psycopg

    def make(kind, names, templates) -> str:
        with psycopg.connect(postgres) as connection:
            (count,) = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
            table = f"faces_{count}"
            connection.execute(f"CREATE TABLE {table} (id serial PRIMARY KEY, name text, embedding {kind})")
            left, right = "[]" if "vec" in kind else "{}"
            vectors = (f"{left}{','.join(map(str, row))}{right}" for row in templates.tolist())
            insert = f"INSERT INTO {table} (name, embedding) VALUES (%s, %s::{kind})"
            connection.cursor().executemany(insert, list(zip(names, vectors, strict=True)))
        return f"{postgres}{'&' if '?' in postgres else '?'}table={table}"

    return make
