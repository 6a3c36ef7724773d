"""Which kinds there are and where the API server has them."""

from urllib.parse import quote

import msgspec

from database_operator.kube.errors import Invalid


class Resource(msgspec.Struct, frozen=True):
    """One kind. ``api_version`` is ``v1`` or ``group/version``; ``plural`` is its name in paths and rights."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return self.api_version.partition("/")[0] if "/" in self.api_version else ""

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Path of an object, or without ``name`` of the collection (without ``namespace``: of all namespaces).

        Raises Invalid for a name that cannot be one segment of a path, which a user's reference may hold.
        """
        parts = ["/apis" if "/" in self.api_version else "/api", self.api_version]
        if namespace and self.namespaced:
            parts += ["namespaces", _segment(namespace)]
        elif name and self.namespaced:
            raise Invalid(400, "BadRequest", f"a {self.kind} has a namespace")
        parts.append(self.plural)
        if name:
            parts.append(_segment(name))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


def _segment(name: str) -> str:
    """``name`` as one segment of a path; refuses what Kubernetes' own ValidatePathSegmentName refuses."""
    if name in ("", ".", "..") or "/" in name or "%" in name:
        raise Invalid(400, "BadRequest", f"not a name: {name!r}")
    return quote(name, safe="")


CONFIG_MAP = Resource("v1", "ConfigMap", "configmaps")
DEPLOYMENT = Resource("apps/v1", "Deployment", "deployments")
EVENT = Resource("v1", "Event", "events")
JOB = Resource("batch/v1", "Job", "jobs")
LEASE = Resource("coordination.k8s.io/v1", "Lease", "leases")
NAMESPACE = Resource("v1", "Namespace", "namespaces", namespaced=False)
PERSISTENT_VOLUME_CLAIM = Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
POD = Resource("v1", "Pod", "pods")
POD_DISRUPTION_BUDGET = Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
ROLE = Resource("rbac.authorization.k8s.io/v1", "Role", "roles")
ROLE_BINDING = Resource("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
SECRET = Resource("v1", "Secret", "secrets")
SERVICE = Resource("v1", "Service", "services")
SERVICE_ACCOUNT = Resource("v1", "ServiceAccount", "serviceaccounts")
STATEFUL_SET = Resource("apps/v1", "StatefulSet", "statefulsets")
STORAGE_CLASS = Resource("storage.k8s.io/v1", "StorageClass", "storageclasses", namespaced=False)

_known: dict[tuple[str, str], Resource] = {}


def register(resource: Resource) -> Resource:
    """Make a kind known to ``by_kind``; gives it back."""
    _known[resource.api_version, resource.kind] = resource
    return resource


def by_kind(api_version: str, kind: str) -> Resource:
    """The Resource of a manifest. Raises KeyError for a kind nobody registered, which is a fault in the program."""
    return _known[api_version, kind]


for _resource in [value for value in globals().values() if isinstance(value, Resource)]:
    register(_resource)
