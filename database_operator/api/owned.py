"""The engines' refusals as admission rules, one a reason: a name that is never taken is refused before it is stored.

A name whose refusal depends on the value, or on the version, is left to ``Engine.problems``.
"""

import re
from collections.abc import Iterator, Sequence

from msgspec import Struct

from database_operator.api.core import Schema
from database_operator.api.refusals import Refusal, find
from database_operator.api.spec import EngineType


class Owned(Struct, frozen=True):
    """What one engine refuses."""

    type: EngineType
    parameters: Sequence[Refusal]
    env: Sequence[Refusal]


def _expression(patterns: Sequence[str], case: str) -> str:
    """A CEL literal with the regular expression (RE2) of names and prefixes."""
    words = [re.escape(pattern.removesuffix("*")).replace("\\-", "-") + (".*" if pattern.endswith("*") else "") for pattern in patterns]
    return f"r'{case}^({'|'.join(words)})$'"


def _reasons(name: str, refusals: Sequence[Refusal], case: str) -> Iterator[tuple[str, str, str]]:
    """(CEL that is true where ``name`` is refused, the names, the reason). An exception is one that ``find`` meets first."""
    excepted = [r.pattern for r in refusals if r.accept is not None and find(r.pattern.removesuffix("*"), refusals) is r]
    for reason in dict.fromkeys(refusal.reason for refusal in refusals):
        never = [refusal.pattern for refusal in refusals if refusal.accept is None and refusal.reason == reason]
        if not never:
            continue
        met = [name for name in excepted if any(pattern.endswith("*") and name.startswith(pattern[:-1]) for pattern in never)]
        exception = f" && !{name}.matches({_expression(met, case)})" if met else ""
        yield f"{name}.matches({_expression(never, case)}){exception}", ", ".join(never), reason


def environment(owned: Owned) -> list[Schema]:
    """Rules of ``spec`` on the names in ``env``."""
    return [
        {
            "rule": f"self.type != '{owned.type.value}' || !has(self.env) || !self.env.exists(e, {refused})",
            "message": f"spec.env must not set {names} for {owned.type.value}: {reason}; remove it",
            "fieldPath": ".env",
        }
        for refused, names, reason in _reasons("e.name", owned.env, "")
    ]


def parameters(owned: Owned) -> list[Schema]:
    """Rules of the section's ``parameters``. Whether a name is in capitals makes no difference."""
    path = f"spec.{owned.type.value.lower()}.parameters"
    return [
        {"rule": f"!self.exists(k, {refused})", "message": f"{path} must not set {names}: {reason}; remove it"}
        for refused, names, reason in _reasons("k", owned.parameters, "(?i)")
    ]
