"""The operator's own validation says the same of the same table as the API server."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from database_operator.api import core
from database_operator.api.database import Metadata, Stored, decode, resolve
from database_operator.api.refusals import Problem
from database_operator.api.spec import EngineType
from database_operator.api.validation import explanation, problems
from database_operator.engines.registry import ENGINES
from tests.api.cases import CHANGES, FIRST_VERSION, GOOD, Spec, redis
from tests.api.refused import BAD, Bad


def found(spec: Spec, name: str = "orders") -> list[Problem]:
    try:
        return problems(decode(Stored(metadata=Metadata(name=name), spec=msgspec.Raw(msgspec.json.encode(spec)))))
    except msgspec.ValidationError as error:
        return [explanation(error)]


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.id)
def test_bad_input_is_a_problem_with_the_field_and_the_remedy(case: Bad) -> None:
    told = [f"{problem.field} {problem.message}" for problem in found(case.spec, case.name)]
    wanted = case.says if case.operator is None else case.operator
    assert any(wanted in line for line in told), told


ACCEPTED = GOOD + list(FIRST_VERSION.items()) + [(change.id, change.old) for change in CHANGES]


@pytest.mark.parametrize("wanted", [wanted for _, wanted in ACCEPTED], ids=[name for name, _ in ACCEPTED])
def test_good_input_has_no_problem(wanted: Spec) -> None:
    assert found(wanted) == []


def test_every_problem_is_told_at_once() -> None:
    spec = redis(3, mode="standalone") | {"mongodb": {}, "resources": {"cpu": "2", "cpuLimit": "1"}}
    assert [problem.field for problem in found(spec, "1db")] == ["metadata.name", "spec.replicas", "spec.mongodb", "spec.resources.cpu"]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ({"runAsUser": 999}, None),
        ({"runAsUser": True}, ("x.runAsUser", "must be of type integer")),
        ({"hostUsers": 1}, ("x.hostUsers", "is not supported here: remove it")),
        ({"supplementalGroups": [0] * 33}, ("x.supplementalGroups", "must have 0 to 32 items")),
        ({"seccompProfile": {}}, ("x.seccompProfile.type", "is required")),
        ({"seLinuxOptions": {"level": "x" * 318}}, ("x.seLinuxOptions.level", "must be from 0 to 317 characters")),
    ],
)
def test_core_structures_are_looked_into(value: Any, fault: tuple[str, str] | None) -> None:
    assert core.faults(value, core.security_context(), "x") == ([fault] if fault else [])


SAMPLES = sorted((Path(__file__).resolve().parents[2] / "config/samples").glob("*.yaml"))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_the_samples_have_no_problem(sample: Path) -> None:
    (manifest,) = yaml.safe_load_all(sample.read_text())
    assert found(manifest["spec"], manifest["metadata"]["name"]) == []


@pytest.mark.parametrize(("kind", "wanted"), FIRST_VERSION.items(), ids=list(FIRST_VERSION))
def test_manifests_of_the_first_version_suit_their_engine(kind: str, wanted: Spec) -> None:
    stored = Stored(metadata=Metadata(name="orders", namespace="shop"), spec=msgspec.Raw(msgspec.json.encode(wanted)))
    assert ENGINES[EngineType(kind)].problems(resolve(decode(stored))) == []
