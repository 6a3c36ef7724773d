"""What is generated is current, whole and said in every table."""

from pathlib import Path

import pytest
from msgspec import inspect

from database_operator import generate, reference
from database_operator.api import documentation
from database_operator.api.schema import custom_resource_definition, owner
from database_operator.api.spec import DatabaseSpec
from database_operator.api.status import Phase, Reason


def test_the_generated_files_are_current() -> None:
    assert generate.stale() == []


def test_check_names_the_file_and_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0
    (tmp_path / "deploy/base/rbac.yaml").write_text("# edited\n")
    (tmp_path / "docs/reference/spec.md").unlink()
    assert generate.main(["--check"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told == [f"{path} is out of date: run scripts/generate" for path in ("deploy/base/rbac.yaml", "docs/reference/spec.md")]


def test_crds_have_a_folder_of_their_own() -> None:
    assert [path.name for path in (generate.ROOT / "deploy/crds").iterdir()] == ["databases.database-operator.io_databases.yaml"]


def test_no_description_is_left_over() -> None:
    used = {
        f"{owner(kind.cls, field.name)}.{field.encode_name}" for _, kind, field in reference.fields(inspect.type_info(DatabaseSpec), "")
    }
    assert set(documentation.FIELDS) == used


def test_every_reason_is_explained() -> None:
    explained = {line.partition(": ")[0] for _, reasons in documentation.CONDITIONS.values() for line in reasons}
    assert explained == {reason.value for reason in Reason}


def test_every_phase_is_explained() -> None:
    assert list(documentation.PHASES) == [phase.value for phase in Phase]


def test_replicas_has_the_only_default() -> None:
    def defaults(node: object, path: str = "") -> list[str]:
        if isinstance(node, dict):
            here = [path] if "default" in node and "type" in node else []
            return here + [found for key, value in node.items() for found in defaults(value, f"{path}.{key}")]
        return []

    schema = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert defaults(schema) == [".properties.spec.properties.replicas"]
