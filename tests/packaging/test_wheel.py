"""What is in the wheel, and what it says of itself."""

import ast
import re
import sys
import zipfile
from email.message import Message
from email.parser import Parser

import pytest
import yaml
from packaging.requirements import Requirement

PACKAGES = ("delete_tasks", "delete_mmseg", "delete_images", "delete_faces", "delete_backdoor", "delete_detection")


@pytest.fixture(scope="module")
def files(wheel) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


@pytest.fixture(scope="module")
def metadata(wheel) -> Message:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    return Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def requirements(metadata) -> dict[str, set[str]]:
    """Extra -> names of what it installs, extras of this package among them resolved; '' is the base."""
    extras = metadata.get_all("Provides-Extra")
    found = [Requirement(text) for text in metadata.get_all("Requires-Dist")]

    def names(extra: str) -> set[str]:
        own = [r for r in found if r.marker is None or r.marker.evaluate({"extra": extra})]
        nested = {inner for r in own if r.name == "delete-tasks" for inner in r.extras}
        return {r.name for r in own if r.name != "delete-tasks"}.union(*map(names, nested))

    return {extra: names(extra) for extra in ["", *extras]}


def sources(repository) -> set[str]:
    """Every file of the packages and the configs, by its place in the wheel."""
    found = set()
    for name, place in (("delete_tasks", "delete_tasks/"), ("configs", "delete_tasks/configs/")):
        folder = repository / name
        found |= {place + path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    found |= {path.relative_to(repository / "plugins").as_posix() for path in repository.glob("plugins/*/**/*.*")}
    return {name for name in found if "__pycache__" not in name and ".egg-info" not in name}


def test_every_file_of_the_packages_is_there_and_nothing_else(files, repository):
    """A new sub-package or data file that pyproject.toml does not name would be missing for users alone."""
    installed = {name for name in files if ".dist-info/" not in name}
    assert installed == sources(repository)
    assert {f"{package}/py.typed" for package in PACKAGES} <= installed


def test_license_is_whole(wheel, files, metadata):
    (name,) = (name for name in files if name.endswith("licenses/LICENSE"))
    text = zipfile.ZipFile(wheel).read(name).decode()
    assert metadata["License-Expression"] == "Apache-2.0" and metadata.get_all("License-File") == ["LICENSE"]
    assert "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text and len(text) > 11_000


def test_metadata(metadata):
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata.get_all("Project-URL") == ["Paper, https://arxiv.org/abs/2503.23751"]
    versions = {f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11, 12, 13)}
    assert versions < set(metadata.get_all("Classifier"))


def test_no_requirement_names_a_local_build(metadata):
    assert not [text for text in metadata.get_all("Requires-Dist") if "+" in text or "@" in text]


def test_extras(requirements):
    """What writes a record can check one; what needs OpenCV gets one that needs no window system."""
    assert requirements[""] == {"torch", "click", "filelock", "numpy", "rich", "rich-click", "safetensors"}
    parts = ("segmentation", "images", "faces", "backdoor", "detection", "audit")
    for extra in (*parts, "run", "all"):
        assert requirements["record"] <= requirements[extra], extra
    assert requirements["record"] - requirements[""] == {"jinja2", "jsonschema", "cryptography"}
    assert requirements["all"] == set().union(*(requirements[part] for part in (*parts, "export", "hub", "postgresql")))
    assert "opencv-contrib-python-headless" in requirements["segmentation"]  # put in place after MMCV's opencv-python
    for extra in ("images", "faces", "backdoor", "detection"):
        assert "opencv-python-headless" in requirements[extra]
    for names in requirements.values():
        assert not {"opencv-python", "adversarial-robustness-toolbox"} & names


# Import names that differ from the distribution's; any build of OpenCV brings cv2; timm and transformers are for their own names.
DISTRIBUTION = {
    "PIL": "pillow", "sklearn": "scikit-learn", "pytorch_grad_cam": "grad-cam", "facenet_pytorch": "facenet-pytorch",
    "rich_click": "rich-click", "mmengine": "onedl-mmengine", "mmcv": "onedl-mmcv", "mmseg": "onedl-mmsegmentation",
}  # fmt: skip
NOT_REQUIRED = {"timm", "transformers", *PACKAGES}


@pytest.mark.parametrize(("folder", "extras"), [
    ("delete_tasks", ["run", "audit", "export", "hub"]),  # loaded where they are used
    ("plugins/delete_mmseg", ["segmentation"]), ("plugins/delete_images", ["images"]),
    ("plugins/delete_faces", ["faces", "postgresql", "export"]), ("plugins/delete_backdoor", ["backdoor"]),
    ("plugins/delete_detection", ["detection"]),
])  # fmt: skip
def test_what_is_imported_is_required(folder, extras, requirements, repository):
    """Third-party modules that a package imports come with its extra."""
    brought = requirements[""].union(*(requirements[extra] for extra in extras))
    if any(name.startswith("opencv") for name in brought):
        brought |= {"cv2"}
    for path in (repository / folder).rglob("*.py"):
        imported = imports(ast.parse(path.read_text(encoding="utf-8"))) - NOT_REQUIRED
        missing = {name for name in imported if DISTRIBUTION.get(name, name) not in brought}
        assert not missing, f"{path.relative_to(repository)}: {missing} do not come with {extras}"


def imports(tree: ast.AST) -> set[str]:
    """Top-level names of the third-party modules that a file imports, by statement or by ``require``."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module)
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "require":
            found |= {argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)}
    return {name.partition(".")[0] for name in found} - sys.stdlib_module_names


def test_versions_agree(metadata, repository):
    """pyproject.toml, CITATION.cff and the newest released section of CHANGELOG.md."""
    citation = yaml.safe_load((repository / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (repository / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[(\d[^\]]*)\] - (\d{4}-\d\d-\d\d)$", changes, re.M)
    assert metadata["Version"] == citation["version"] == released[0][0]
    assert str(citation["date-released"]) == released[0][1]
    assert citation["license"] == metadata["License-Expression"]
    assert citation["references"][0]["identifiers"][0] == {"type": "other", "value": "arXiv:2503.23751"}


def test_constraints_hold(metadata, repository):
    """The versions that ran together are versions that the extras admit, and nothing of them is a local build."""
    pinned = {}
    for line in (repository / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pinned[Requirement(line).name.lower()] = Requirement(line)
    assert not [line for line in pinned.values() if "+" in str(line)]
    for required in map(Requirement, metadata.get_all("Requires-Dist")):
        line = pinned.get(required.name.lower())
        assert required.name == "delete-tasks" or line is not None, f"constraints.txt does not name {required.name}"
        exact = [spec.version for spec in line.specifier if spec.operator == "=="] if line else []
        assert all(required.specifier.contains(version) for version in exact), f"{line} against {required}"


def test_contributing_names_files_that_are_there(repository):
    """Paths and make verbs in CONTRIBUTING.md exist."""
    text = (repository / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`([\w./-]+/[\w./-]*|[\w-]+\.(?:md|toml|txt|cff|py))`", text))
    assert len(paths) > 15
    assert not [path for path in paths if not (repository / path).exists()]
    verbs = set(re.findall(r"make ([a-z][a-z-]+)", text))
    targets = set(re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(), re.M))
    assert verbs <= targets and {"test", "test-fast", "test-faults", "test-wheel", "lint"} <= verbs
