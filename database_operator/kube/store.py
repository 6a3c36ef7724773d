"""Objects by key, with indexes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from database_operator.kube.objects import HasMeta, Key

T = TypeVar("T", bound=HasMeta)


def _owner(item: HasMeta) -> Iterable[str]:
    uid = item.metadata.controller_uid
    return (uid,) if uid else ()


class Store(Generic[T]):
    """``indexes`` names functions from an object to the values it is found by; ``owner`` is always there."""

    def __init__(self, indexes: Mapping[str, Callable[[T], Iterable[str]]]) -> None:
        self._items: dict[Key, T] = {}
        self._functions: dict[str, Callable[[T], Iterable[str]]] = {"owner": _owner, **indexes}
        # A set only where several objects share a value: an empty set alone takes 216 bytes.
        self._found: dict[str, dict[str, Key | set[Key]]] = {name: {} for name in self._functions}

    def get(self, key: Key) -> T | None:
        return self._items.get(key)

    def all(self) -> list[T]:
        return list(self._items.values())

    def __iter__(self) -> Iterator[Key]:
        return iter(self._items)

    def by_index(self, name: str, value: str) -> list[T]:
        keys = self._found[name].get(value, ())
        if isinstance(keys, Key):
            return [self._items[keys]]
        return [self._items[key] for key in sorted(keys)]

    def put(self, key: Key, item: T) -> T | None:
        """Store; gives what was there."""
        old = self._items.get(key)
        self._items[key] = item
        for name, function in self._functions.items():
            before = set(function(old)) if old is not None else set()
            after = set(function(item))
            for value in before - after:
                self._unlink(name, value, key)
            for value in after - before:
                self._link(name, value, key)
        return old

    def remove(self, key: Key) -> T | None:
        old = self._items.pop(key, None)
        if old is not None:
            for name, function in self._functions.items():
                for value in set(function(old)):
                    self._unlink(name, value, key)
        return old

    def _link(self, name: str, value: str, key: Key) -> None:
        keys = self._found[name].get(value)
        if keys is None:
            self._found[name][value] = key
        elif isinstance(keys, set):
            keys.add(key)
        else:
            self._found[name][value] = {keys, key}

    def _unlink(self, name: str, value: str, key: Key) -> None:
        keys = self._found[name].get(value)
        if isinstance(keys, set):
            keys.discard(key)
        if keys == key or not keys:
            self._found[name].pop(value, None)
