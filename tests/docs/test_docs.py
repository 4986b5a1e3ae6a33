"""Links and paths in README, CONTRIBUTING, docs/ and the code exist, and the reference covers the code; examples in
docstrings run."""

import doctest
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from commands import parsers

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
GENERATED = [page for page in PAGES if "\n<!-- generate: " in page.read_text()]
# Where code, help and settings may name a file of docs/.
NAMING = ("delete_tasks", "plugins", "configs", "tools", "tests", "docs")
SINGLE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "pyproject.toml", "mkdocs.yml")


@pytest.fixture(scope="module")
def hooks():
    """docs/hooks.py, loaded as MkDocs does."""
    return load("hooks")


@pytest.fixture(scope="module")
def generate():
    """docs/generate.py."""
    return load("generate")


def load(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(DOCS)
        return importlib.import_module(name)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as MkDocs and code hosts make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def links(page: Path) -> Iterator[str]:
    """Relative links and pictures of a page."""
    text = re.sub(r"^```.*?^```$|`[^`\n]+`", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{page.name} links to {link}, and there is no {target}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"


def test_named_paths_exist():
    """Comments, docstrings, help texts and settings name only files of docs/ that exist."""
    files = [REPOSITORY / name for name in SINGLE]
    for name in NAMING:
        files += [path for path in (REPOSITORY / name).rglob("*") if path.suffix in (".py", ".md", ".toml")]
    named = {(found, file.name) for file in files for found in re.findall(r"\bdocs/[\w/.-]+\.\w+", file.read_text())}
    assert len(named) > 20
    missing = sorted(f"{found} (in {file})" for found, file in named if not (REPOSITORY / found).is_file())
    assert not missing, f"files of docs/ that are named and not there: {', '.join(missing)}"


def test_every_page_is_in_the_navigation():
    listed = re.findall(r": ([\w/]+\.md)$", (REPOSITORY / "mkdocs.yml").read_text(), re.M)
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_the_reference_holds_every_command_and_option(generate):
    page = generate.cli()
    for name, command in parsers():
        section = page.partition(f"## delete-tasks {name}\n")[2].partition("\n## ")[0]
        for param in command.params:
            shown = param.opts[0] if param.opts[0].startswith("-") else param.metavar or param.name.upper()
            row = next((line for line in section.splitlines() if line.startswith("|") and f"`{shown}`" in line), None)
            assert row is not None, f"delete-tasks {name} has {shown}, and the page of commands does not"
            assert not param.help or param.help.split()[0] in row


def test_the_reference_holds_every_config_key(generate):
    from dataclasses import fields

    from mmengine.registry import HOOKS

    from delete_tasks.methods.base import UnlearnHook
    from delete_tasks.request.config_checks import parameters
    from delete_tasks.request.recipe import Recipe

    page = generate.config()
    methods = [hook for hook in HOOKS.module_dict.values() if inspect.isclass(hook) and issubclass(hook, UnlearnHook)]
    assert len(methods) > 3
    for name in {*(field.name for field in fields(Recipe)), *(n for hook in methods for n in parameters(hook))}:
        assert re.search(rf"^\| `{name}` \| `[^|]+` \| \S", page, re.M), f"the page of keys lacks {name}"
    assert all(f"### {hook.__name__}\n" in page for hook in methods)


def test_the_reference_holds_every_key_of_records():
    record = json.loads((REPOSITORY / "delete_tasks" / "report" / "record" / "schema.json").read_text())
    page = (DOCS / "reference" / "record.md").read_text()
    assert not [key for key in record["required"] if f"`{key}`" not in page]


@pytest.mark.parametrize("page", GENERATED, ids=lambda page: page.stem)
def test_generated_parts_are_as_the_code_is(generate, page):
    text = page.read_text()
    assert generate.MARKER.search(text), f"{page} has no <!-- end -->"
    assert generate.render(text) == text, f"{page.name} is stale: run python docs/generate.py, and commit it"
    host_path_or_address = re.search(r"https?://|/home/|/root/|0x[0-9a-f]{6}", text)
    assert not host_path_or_address, page


def test_every_generated_part_is_in_a_page(generate):
    asked = {name for page in GENERATED for name in re.findall(r"^<!-- generate: (\w+)", page.read_text(), re.M)}
    assert asked == set(generate.PARTS)


@pytest.mark.parametrize(
    "tag", ["<script src='https://host/a.js'>", "<link rel=stylesheet href=//host/a.css>", '<img src="http://host/a">']
)
def test_a_page_with_outside_addresses_is_an_error(hooks, tag):
    assert hooks.on_post_page("<a href='https://host/'>") == "<a href='https://host/'>"
    with pytest.raises(ValueError, match="host/a"):
        hooks.on_post_page(f"<p>{tag}</p>")


def test_the_home_page_is_the_readme_and_pictures_open(hooks):
    page = SimpleNamespace(file=SimpleNamespace(src_uri="index.md"))
    assert "](guides/images.md)" in hooks.on_page_markdown("other", page)
    page.file.src_uri = "guides/images.md"
    assert hooks.on_page_markdown("as it is", page) == "as it is"
    assert hooks.on_page_content('<img alt="a" src="b.png">') == '<a href="b.png"><img alt="a" src="b.png"></a>'


WITH_EXAMPLES = ("display.table", "losses.functional", "model.head")


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings_run(name):
    outcome = doctest.testmod(importlib.import_module(f"delete_tasks.{name}"))
    assert outcome.attempted > 0 and outcome.failed == 0
