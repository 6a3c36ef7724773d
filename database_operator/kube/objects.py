"""The parts every Kubernetes object has, as Structs that keep only what is named here.

A kind's own Struct names a ``metadata`` field and whatever else of it is wanted; decoding skips the rest.
"""

import sys
from typing import NamedTuple, Protocol

import msgspec


class Key(NamedTuple):
    """What names an object of one kind. ``namespace`` is empty for cluster-scoped kinds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class OwnerReference(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    kind: str
    name: str
    uid: str
    controller: bool = False
    api_version: str = ""

    @property
    def group(self) -> str:
        """Empty for the core group."""
        return self.api_version.rpartition("/")[0]


class Meta(msgspec.Struct, frozen=True, kw_only=True, eq=False, gc=False, rename="camel"):
    """``metadata`` without annotations and managedFields.

    Two of them are equal if they differ in ``resource_version`` only: it changes with every write, also with those
    that touch nothing that was kept.
    """

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()
    deletion_timestamp: str | None = None
    creation_timestamp: str | None = None

    def __eq__(self, other: object) -> bool:
        if self.__class__ is not other.__class__:
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__struct_fields__ if name != "resource_version")

    def __ne__(self, other: object) -> bool:  # a Struct brings its own, by identity
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    @property
    def key(self) -> Key:
        return Key(self.namespace, self.name)

    @property
    def controller(self) -> OwnerReference | None:
        """The one owner that controls this object."""
        return next((owner for owner in self.owner_references if owner.controller), None)

    @property
    def controller_uid(self) -> str:
        """UID of that owner, or an empty string."""
        owner = self.controller
        return owner.uid if owner else ""

    def share_strings(self) -> None:
        """Keep one copy of what thousands of objects have in common; saves a third of an object's memory."""
        labels = {sys.intern(key): sys.intern(value) for key, value in self.labels.items()}
        msgspec.structs.force_setattr(self, "labels", labels)
        msgspec.structs.force_setattr(self, "namespace", sys.intern(self.namespace))
        for owner in self.owner_references:
            msgspec.structs.force_setattr(owner, "kind", sys.intern(owner.kind))
            msgspec.structs.force_setattr(owner, "api_version", sys.intern(owner.api_version))


class AnnotatedMeta(Meta, frozen=True, kw_only=True, eq=False, gc=False, rename="camel"):
    """``Meta`` with annotations, for kinds whose annotations matter: they can be large."""

    annotations: dict[str, str] = {}


class HasMeta(Protocol):
    """Any Struct that names ``metadata``."""

    @property
    def metadata(self) -> Meta: ...


class Object(msgspec.Struct, frozen=True, gc=False):
    """Any object, of which only the metadata is kept; the answer to a write."""

    metadata: Meta


class AnnotatedObject(msgspec.Struct, frozen=True, gc=False):
    """As ``Object``, with annotations."""

    metadata: AnnotatedMeta
