"""Which archive is used, when an image is made, and what is said when it cannot be."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from localcluster import images
from localcluster.errors import ClusterError
from localcluster.images import base, operator, store
from localcluster.images.catalog import CATALOG

REDIS = "docker.io/library/redis:7.2"
UNKNOWN = "docker.io/library/redis:9"


class Builder:
    """Stands where buildah does: notes what is asked of it, writes archives."""

    def __init__(self, pulls: bool) -> None:
        self.pulls, self.calls = pulls, list[str]()

    def pull(self, reference: str, progress: Any) -> bool:
        self.calls.append(f"pull {reference}")
        return self.pulls

    def build(self, reference: str, *arguments: Any, **keywords: Any) -> None:
        self.calls.append(f"build {reference}")

    def save(self, reference: str, archive: Path) -> None:
        archive.write_text(reference)


@pytest.fixture
def builder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    made = Builder(getattr(request, "param", False))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(images, "_unreached", set())
    monkeypatch.setattr(images, "require_disk", lambda *arguments: None)
    monkeypatch.setattr(store, "require_tools", lambda *_: None)
    monkeypatch.setattr(images.maven, "fetch", lambda artifact, target: None)
    monkeypatch.setattr(base, "ensure", lambda suite, progress: suite)
    for name in ("pull", "build", "save"):
        monkeypatch.setattr(store, name, getattr(made, name))
    monkeypatch.setattr(store, "run", lambda reference, argv: "0.4 0.1\n")
    monkeypatch.setattr(store, "tidy", lambda: None)
    for name in ("remove", "forget_stale"):
        monkeypatch.setattr(store, name, lambda argument: None)
    return made


def quiet(text: str) -> None:
    """Takes progress."""


def test_built_once_where_no_registry_answers(builder: Builder) -> None:
    first = images.ensure([REDIS, REDIS], quiet)
    assert first == {REDIS: images.archive_path(REDIS, CATALOG[REDIS].digest())}
    assert images.ensure([REDIS], quiet) == first
    assert builder.calls == [f"pull {REDIS}", f"build {REDIS}"]


def test_a_registry_that_did_not_answer_is_not_asked_again(builder: Builder) -> None:
    images.ensure([REDIS, "docker.io/nouchka/sqlite3:latest"], quiet)
    assert [call for call in builder.calls if call.startswith("pull")] == [f"pull {REDIS}"]


@pytest.mark.parametrize("builder", [True], indirect=True)
def test_pulled_images_stay_whatever_the_recipe(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    assert images.ensure([REDIS, UNKNOWN], quiet)[UNKNOWN].name == "docker.io_library_redis-9-pulled.tar"
    monkeypatch.setattr(images.catalog, "BASE_FORMAT", "other")
    assert images.ensure([REDIS], quiet)[REDIS].name.endswith("-pulled.tar")
    assert builder.calls == [f"pull {REDIS}", f"pull {UNKNOWN}"]


def test_a_changed_recipe_replaces_the_archive(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    before = images.ensure([REDIS], quiet)[REDIS]
    monkeypatch.setattr(images.catalog, "BASE_FORMAT", "other")
    after = images.ensure([REDIS], quiet)[REDIS]
    assert after != before
    assert [path.name for path in store.folder().glob("*.tar")] == [after.name]


def test_none_means_all_and_the_operator_is_never_pulled(builder: Builder) -> None:
    assert set(images.ensure(None, quiet)) == {name for name, recipe in CATALOG.items() if not recipe.on_request} | {operator.reference()}
    assert f"pull {operator.reference()}" not in builder.calls
    assert f"build {operator.reference()}" in builder.calls


def test_an_image_without_recipe_and_registry_is_refused(builder: Builder) -> None:
    with pytest.raises(ClusterError, match=r"redis:9 is not pulled .* has no recipe: these have one: .*redis:7\.2"):
        images.ensure([UNKNOWN], quiet)


def test_building_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.os, "geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match="needs root"):
        store.require_tools(print)


def test_building_needs_its_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.os, "geteuid", lambda: 0)
    lacking = ("buildah", "mmdebstrap", "apt-get")
    monkeypatch.setattr(store.shutil, "which", lambda name, path=None: None if name in lacking else name)
    with pytest.raises(ClusterError, match="buildah mmdebstrap are missing: install them"):
        store.require_tools(print)


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        ("", "building x does not say why"),
        ("step\nE: Unable to locate package x\nerror: exit status 100", "E: Unable to locate package x"),
        ("tar: write error: No space left on device\nE: broken", "tar: write error: No space left on device"),
        ("STEP 1: FROM x\nError: pinging registry: no such host", "Error: pinging registry: no such host"),
        ("STEP 1\nexit status 1", "exit status 1"),
    ],
)
def test_cause_is_the_first_error_of_the_step(output: str, cause: str) -> None:
    assert store.cause(output, "building x") == cause


def test_failed_program_is_one_line_and_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ClusterError) as caught:
        store.checked(["sh", "-c", "echo some; echo 'E: no such package' >&2; exit 3"], "building x")
    assert str(caught.value).startswith("building x failed (E: no such package): ")
    assert "\n" not in str(caught.value)
    assert "some\nE: no such package" in (store.folder() / "log").read_text()


@pytest.mark.parametrize(("installed", "found"), [(["podman", "docker"], "podman"), (["docker"], "docker")])
def test_builder_is_the_first_that_works(installed: list[str], found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator.shutil, "which", lambda name: name if name in installed else None)
    monkeypatch.setattr(operator.subprocess, "run", lambda argv, **keywords: subprocess.CompletedProcess(argv, 0))
    assert operator.builder() == found


def test_a_client_without_its_daemon_is_no_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator.shutil, "which", lambda name: name)
    monkeypatch.setattr(operator.subprocess, "run", lambda argv, **keywords: subprocess.CompletedProcess(argv, 1))
    with pytest.raises(ClusterError, match="install one of podman, buildah, docker"):
        operator.builder()


def test_operator_image_is_built_offline_where_the_builder_fails(builder: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(argv: list[str], what: str, **keywords: Any) -> str:
        raise ClusterError(f"{what} failed (no such host)")

    said: list[str] = []
    monkeypatch.setattr(operator, "builder", lambda: "podman")
    monkeypatch.setattr(store, "checked", failing)
    monkeypatch.setattr(store, "tag", lambda reference, name: None)
    archive = operator.build("localhost/team/operator:dev", said.append)
    assert Path(archive).read_text() == "localhost/team/operator:dev"
    assert builder.calls == [f"build {operator.reference()}"]
    assert any("podman failed (no such host)" in line for line in said)
