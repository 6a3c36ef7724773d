"""Recipes: found whole, hashed by what they are made of, and free of addresses."""

import re
from pathlib import Path

import pytest

from database_operator import __version__
from localcluster.images import base, catalog, operator
from localcluster.images.catalog import CATALOG, HERE, PROJECT, Recipe, digest

CONTAINERFILES = [PROJECT / "Containerfile", *sorted(HERE.glob("*/Containerfile"))]


@pytest.mark.parametrize("reference", CATALOG)
def test_a_recipe_has_what_its_containerfile_copies(reference: str) -> None:
    recipe = CATALOG[reference]
    context = recipe.context()
    text = context["Containerfile"].read_text()
    copied = {word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M) for word in line.split()}
    given = set(context) | ({f"artifact.{recipe.artifact.rpartition(':')[2]}"} if recipe.artifact else set())
    assert copied <= given
    assert all(path.exists() for path in context.values())
    assert all(re.search(rf"^ARG {name}\b", text, re.M) for name in [*recipe.arguments, "SUITE", "APT_CONFIG"])


@pytest.mark.parametrize("folder", sorted(path.parent.name for path in HERE.glob("*/Containerfile")))
def test_every_folder_is_in_the_catalog(folder: str) -> None:
    assert any(recipe.folder == folder for recipe in CATALOG.values())


@pytest.mark.parametrize("path", CONTAINERFILES, ids=lambda path: path.parent.name)
def test_images_come_from_a_base_that_can_be_made_offline(path: Path) -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", path.read_text(), re.M))
    bases = set(re.findall(r"^FROM (\S+)", path.read_text(), re.M)) - stages
    assert len(bases) == 1
    assert re.fullmatch(r"docker\.io/library/debian:(bookworm|\$\{SUITE\})-slim", bases.pop())


FILES = [
    path
    for folder in ("localcluster/images", "agent/bundle.spec", "Containerfile", ".containerignore", "requirements")
    for path in ([PROJECT / folder] if (PROJECT / folder).is_file() else sorted((PROJECT / folder).rglob("*")))
    if path.is_file() and path.suffix != ".pyc"
]


def test_no_file_names_a_package_archive() -> None:
    """An address in a lock or a recipe would hold builds to one mirror, perhaps one that only its author reaches."""
    address = re.compile(r"https?://(?!127\.0\.0\.1|localhost|[{%\[])[\w.-]+\.\w+|--(extra-)?index-url|--find-links|--trusted-host")
    assert {str(path.relative_to(PROJECT)): address.findall(path.read_text()) for path in FILES if address.search(path.read_text())} == {}


def test_digest_follows_names_contents_and_modes_alone(tmp_path: Path) -> None:
    def made(name: str, text: str = "a", mode: int = 0o644) -> str:
        folder = tmp_path / "context"
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        (folder / name).write_text(text)
        (folder / name).chmod(mode)
        return digest(["words"], {"x": folder})

    first = made("f")
    assert re.fullmatch("[0-9a-f]{12}", first)
    assert made("f") == first
    assert len({first, made("g"), made("f", "b"), made("f", mode=0o755)}) == 4
    made("f")
    (tmp_path / "context/__pycache__").mkdir()
    (tmp_path / "context/__pycache__/f.pyc").write_bytes(b"1")
    assert digest(["words"], {"x": tmp_path / "context"}) == first


def test_digest_follows_arguments_and_suite() -> None:
    recipes = [Recipe(folder="redis", suite="bookworm"), Recipe(folder="redis", suite="trixie")]
    recipes.append(Recipe(folder="redis", suite="bookworm", arguments={"A": "1"}))
    assert len({recipe.digest() for recipe in recipes}) == 3
    assert recipes[0].digest() == recipes[0].digest()


def test_operator_image_has_the_projects_version() -> None:
    assert operator.reference() == f"docker.io/library/database-operator:{__version__}"


def test_operator_context_is_what_the_containerfile_copies() -> None:
    copied = {
        word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", (PROJECT / "Containerfile").read_text(), re.M) for word in line.split()
    }
    with operator.context() as folder:
        assert all((folder / name).exists() for name in copied)
        assert not list(folder.rglob("__pycache__"))
        assert {path.name for path in folder.iterdir()} == {"Containerfile", "requirements", "agent", "database_operator"}


def test_slim_rules_and_base_are_part_of_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = CATALOG["docker.io/library/redis:7.2"]
    before = recipe.digest()
    monkeypatch.setattr(catalog, "BASE_FORMAT", "other")
    assert recipe.digest() != before
    assert base.sources("trixie").name.startswith("trixie-")
