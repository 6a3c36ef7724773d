"""Parameters and environment names that the operator owns or that would run code: refused with the reason, or ignored."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct


class Problem(Struct, frozen=True):
    """What is wrong with a spec: ``field`` is its path (``spec.redis.parameters.port``), ``message`` says the remedy."""

    field: str
    message: str


class Refusal(Struct, frozen=True):
    """A parameter or environment name that is refused. ``pattern`` is a name, or a prefix that ends in ``*``.

    ``accept`` are values that the operator sets itself, or that the first version took and that harm nobody:
    ignored with a Warning instead of refused.
    """

    pattern: str
    reason: str
    accept: tuple[str, ...] | None = None  # None: never; (): any value is ignored

    def matches(self, name: str) -> bool:
        if self.pattern.endswith("*"):
            return name.startswith(self.pattern[:-1])
        return name == self.pattern

    def ignores(self, value: str | int) -> bool:
        """Whether ``value`` is let through without effect."""
        return self.accept is not None and (not self.accept or str(value) in self.accept)


def find(name: str, refusals: Iterable[Refusal]) -> Refusal | None:
    """The first refusal that ``name`` meets: exceptions stand before the prefix they are from."""
    return next((refusal for refusal in refusals if refusal.matches(name)), None)


Met = Iterator[tuple[str, str | int, Refusal]]


def _met(parameters: Mapping[str, str | int], refusals: Sequence[Refusal]) -> Met:
    for name, value in sorted(parameters.items()):
        refusal = find(name, refusals)
        if refusal:
            yield name, value, refusal


def refused(parameters: Mapping[str, str | int], refusals: Sequence[Refusal], field: str) -> list[Problem]:
    """A Problem for each parameter that must not be set; ``field`` is the path of the map, ``spec.redis.parameters``."""
    met = _met(parameters, refusals)
    return [Problem(f"{field}.{name}", f"{refusal.reason}; remove it") for name, value, refusal in met if not refusal.ignores(value)]


def ignored(parameters: Mapping[str, str | int], refusals: Sequence[Refusal], field: str) -> list[Problem]:
    """What is let through without effect, for a Warning; ``effective`` leaves it out."""
    met = _met(parameters, refusals)
    return [Problem(f"{field}.{name}", f"has no effect: {refusal.reason}") for name, value, refusal in met if refusal.ignores(value)]


def effective(parameters: Mapping[str, str | int], refusals: Sequence[Refusal]) -> dict[str, str | int]:
    """The parameters that no refusal meets: those to be applied, sorted by name."""
    return {name: value for name, value in sorted(parameters.items()) if find(name, refusals) is None}


def refused_env(names: Iterable[str], refusals: Sequence[Refusal]) -> list[Problem]:
    """A Problem for each variable of ``spec.env`` that would break the database container."""
    met = ((index, name, find(name, refusals)) for index, name in enumerate(names))
    return [Problem(f"spec.env[{index}].name", f"{name}: {refusal.reason}; remove it") for index, name, refusal in met if refusal]
