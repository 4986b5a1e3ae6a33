"""Commands on damaged images and folders of images, which are read or named in one message."""

import os
import shutil
from pathlib import Path

import pytest
from harness import is_refused, no_traceback, some
from helpers import argv
from images import BAD

MEMORY = 6 << 30
ALONE = {  # command that is given a file, or a folder whose only image it is
    "images evaluate": lambda kit, photo, folder: argv("images evaluate", kit.path("images/model"), "--test", folder),
    "faces identify, aligned": lambda kit, photo, _: argv("faces identify --aligned --model", kit.path("faces/model"), photo),
    "faces identify": lambda kit, photo, folder: argv("faces identify --model", kit.path("faces/model"), photo),
    "attention": lambda kit, photo, folder: argv("attention --class red", folder, "--out a.png --original",
                                                 kit.path("images/model"), "--erased", kit.path("images/model")),
    "a trigger": lambda kit, photo, folder: argv("backdoor poison --target red --out p.npz --data", kit.path("images/data.npz"),
                                                 f"--trigger blended:image={photo}"),
}  # fmt: skip


def damaged(here, name: str) -> Path:
    """Write one damaged image into a folder photos/red."""
    path = here.root / "photos" / "red" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(BAD[name][0])
    return path


@pytest.mark.parametrize(("name", "command"), some([(n, c) for n in BAD for c in ALONE], fast=6))
def test_an_image_that_cannot_be_read_is_refused(server, here, kit, name, command):
    photo = damaged(here, name)
    before = here.look()
    argv = ALONE[command](kit, str(photo), str(photo.parent.parent))
    is_refused(server.run(argv, here, memory=MEMORY), here, before, name.split(".")[0])


@pytest.mark.parametrize("name", some(BAD, fast=2))
def test_a_damaged_image_among_others_is_skipped_and_named(server, here, kit, name):
    photos = damaged(here, name).parent.parent
    shutil.copytree(kit.path("images/photos"), photos, dirs_exist_ok=True)
    done = server.run(["images", "evaluate", kit.path("images/model"), "--test", str(photos)], here, memory=MEMORY)
    no_traceback(done)
    assert done.code in (0, 2) and name in done.output, f"it vanished without a word: {done.output[-300:]}"


FOLDERS = {  # what is done to a folder of one class
    "a class of damaged images": lambda folder: [path.write_bytes(b"x") for path in folder.iterdir()],
    "an empty class": lambda folder: [path.unlink() for path in folder.iterdir()],
    "a loop of links": lambda folder: (folder / "again").symlink_to(".."),
    "a fifo": lambda folder: os.mkfifo(folder / "pipe.png"),
    "a folder named like an image": lambda folder: (folder / "dir.png").mkdir(),
    "a dangling link": lambda folder: (folder / "gone.png").symlink_to("nowhere"),
}


@pytest.mark.parametrize("kind", some(FOLDERS, fast=3))
def test_folders(server, here, kit, kind):
    """A class folder without a readable image is reported; loops of links end."""
    photos = here.root / "photos"
    shutil.copytree(kit.path("images/photos"), photos)
    FOLDERS[kind](photos / "green")
    done = server.run(["images", "evaluate", kit.path("images/model"), "--test", str(photos)], here, timeout=60)
    no_traceback(done)
    assert done.code in (0, 2), f"{done}"
    assert kind != "a class of damaged images" or "green" in done.output, f"{done.output[-300:]}"
