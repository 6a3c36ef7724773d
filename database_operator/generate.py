"""Writes what is made from the types and the registry: the CRD, the RBAC and the reference tables.

``python -m database_operator.generate`` writes, ``--check`` compares and ends with 1 if a file is not what it would write.
A development tool: the operator never imports it.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from database_operator import reference, rights
from database_operator.api import schema
from database_operator.api.database import GROUP, PLURAL
from database_operator.api.owned import Owned
from database_operator.engines.registry import ENGINES

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "scripts/generate"
NOTE = f"made by {COMMAND}; do not edit"


class _Dumper(yaml.SafeDumper):
    """Writes shared parts out and indents lists, as manifests are written by hand."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def manifests(*objects: dict[str, Any]) -> str:
    text = yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=140, allow_unicode=True)
    return f"# {NOTE}\n{text}"


def definition() -> dict[str, Any]:
    refusals = [Owned(engine.type, engine.owned_parameters, engine.owned_env) for engine in ENGINES.values()]
    return schema.custom_resource_definition(refusals)


def files() -> dict[str, str]:
    """Path below the project's folder -> text."""
    known = list(ENGINES.values())
    agent_rules = [rule for engine in known for rule in engine.agent_rules or ()]
    crds = manifests(definition())
    return {
        f"deploy/crds/{GROUP}_{PLURAL}.yaml": crds,
        "deploy/base/crds.yaml": crds,  # kustomize reads no file outside its folder, and deploy/crds holds CRDs alone
        "deploy/base/rbac.yaml": manifests(*rights.operator_access(agent_rules)),
        "deploy/base/rbac-secrets.yaml": manifests(*rights.secret_access()),
        "docs/reference/spec.md": reference.spec(NOTE),
        "docs/reference/conditions.md": reference.conditions(NOTE),
        "docs/reference/engines.md": reference.engines(known, NOTE),
    }


def stale() -> list[str]:
    """The generated files that are missing or differ from what would be written."""
    return [path for path, text in files().items() if not (ROOT / path).is_file() or (ROOT / path).read_text() != text]


def main(arguments: list[str]) -> int:
    if arguments not in ([], ["--check"]):
        print(f"usage: {COMMAND} [--check]", file=sys.stderr)
        return 2
    if arguments:
        found = stale()
        for path in found:
            print(f"{path} is out of date: run {COMMAND}", file=sys.stderr)
        return 1 if found else 0
    for path, text in files().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
