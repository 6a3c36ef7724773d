"""Schemas of the core/v1 structures that ``spec.pods`` takes as written: shapes, enums and bounds, without descriptions.

Source: k8s.io/api/core/v1 types.go (Affinity, Toleration, TopologySpreadConstraint, PodSecurityContext); of the security
context only what Pod Security Standards' profile "restricted" allows.
"""

from typing import Any

Schema = dict[str, Any]

ONE_LINE = r"^[^\x00\n\r]*$"
LARGEST_ID = 2**31 - 1


def string(**bounds: Any) -> Schema:
    return {"type": "string", "maxLength": 317, "pattern": ONE_LINE} | bounds


def enum(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def integer(minimum: int, maximum: int = LARGEST_ID) -> Schema:
    return {"type": "integer", "format": "int64", "minimum": minimum, "maximum": maximum}


def array(items: Schema, maximum: int = 32, minimum: int = 0, kind: str = "atomic") -> Schema:
    bounds = {"minItems": minimum} if minimum else {}
    return {"type": "array", "items": items, "maxItems": maximum, "x-kubernetes-list-type": kind} | bounds


def struct(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    schema: Schema = {"type": "object", "properties": properties}
    return schema | ({"required": sorted(required)} if required else {})


def _requirements(*operators: str) -> Schema:
    return array(struct(("key", "operator"), key=string(), operator=enum(*operators), values=array(string(maxLength=63), 64)))


def _selector() -> Schema:
    match_labels = {"type": "object", "additionalProperties": string(maxLength=63), "maxProperties": 32}
    return struct(matchLabels=match_labels, matchExpressions=_requirements("In", "NotIn", "Exists", "DoesNotExist"))


def _node_term() -> Schema:
    requirements = _requirements("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")
    return struct(matchExpressions=requirements, matchFields=requirements)


def _pod_affinity() -> Schema:
    term = struct(
        ("topologyKey",),
        labelSelector=_selector(),
        namespaces=array(string(maxLength=63)),
        namespaceSelector=_selector(),
        topologyKey=string(minLength=1),
        matchLabelKeys=array(string()),
        mismatchLabelKeys=array(string()),
    )
    return struct(
        requiredDuringSchedulingIgnoredDuringExecution=array(term),
        preferredDuringSchedulingIgnoredDuringExecution=array(
            struct(("weight", "podAffinityTerm"), weight=integer(1, 100), podAffinityTerm=term)
        ),
    )


def affinity() -> Schema:
    node = struct(
        requiredDuringSchedulingIgnoredDuringExecution=struct(("nodeSelectorTerms",), nodeSelectorTerms=array(_node_term(), minimum=1)),
        preferredDuringSchedulingIgnoredDuringExecution=array(
            struct(("weight", "preference"), weight=integer(1, 100), preference=_node_term())
        ),
    )
    return struct(nodeAffinity=node, podAffinity=_pod_affinity(), podAntiAffinity=_pod_affinity())


def toleration() -> Schema:
    return struct(
        key=string(),
        operator=enum("Exists", "Equal"),
        value=string(maxLength=63),
        effect=enum("NoSchedule", "PreferNoSchedule", "NoExecute"),
        tolerationSeconds={"type": "integer", "format": "int64"},
    )


def topology_spread_constraint() -> Schema:
    return struct(
        ("maxSkew", "topologyKey", "whenUnsatisfiable"),
        maxSkew=integer(1),
        topologyKey=string(minLength=1),
        whenUnsatisfiable=enum("DoNotSchedule", "ScheduleAnyway"),
        labelSelector=_selector(),
        minDomains=integer(1),
        nodeAffinityPolicy=enum("Honor", "Ignore"),
        nodeTaintsPolicy=enum("Honor", "Ignore"),
        matchLabelKeys=array(string()),
    )


def security_context() -> Schema:
    return struct(
        runAsUser=integer(1),
        runAsGroup=integer(0),
        runAsNonRoot={"type": "boolean", "enum": [True]},
        fsGroup=integer(0),
        fsGroupChangePolicy=enum("OnRootMismatch", "Always"),
        supplementalGroups=array(integer(0)),
        seccompProfile=struct(("type",), type=enum("RuntimeDefault", "Localhost"), localhostProfile=string()),
        seLinuxOptions=struct(level=string(), type=enum("", "container_t", "container_init_t", "container_kvm_t")),
    )


# Struct and field, as in api.spec -> the schema of the value (for a list: of each item)
SHAPES: dict[tuple[str, str], Schema] = {
    ("PodsSpec", "affinity"): affinity(),
    ("PodsSpec", "tolerations"): toleration(),
    ("PodsSpec", "topologySpreadConstraints"): topology_spread_constraint(),
    ("PodsSpec", "securityContext"): security_context(),
}


def faults(value: Any, schema: Schema, path: str) -> list[tuple[str, str]]:
    """Where ``value`` leaves ``schema``, as (path, what it must be): for what the API server has not looked at."""
    kinds = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    if not isinstance(value, kinds[schema["type"]]) or (schema["type"] == "integer" and isinstance(value, bool)):
        return [(path, f"must be of type {schema['type']}")]
    if "enum" in schema and value not in schema["enum"]:
        return [(path, f"must be one of {', '.join(map(str, schema['enum']))}")]
    if isinstance(value, dict):
        return _object_faults(value, schema, path)
    if isinstance(value, list):
        bound = [(path, f"must have {schema.get('minItems', 0)} to {schema['maxItems']} items")]
        crowded = not schema.get("minItems", 0) <= len(value) <= schema["maxItems"]
        inner = [fault for index, item in enumerate(value) for fault in faults(item, schema["items"], f"{path}[{index}]")]
        return (bound if crowded else []) + inner
    low, high = schema.get("minimum", schema.get("minLength")), schema.get("maximum", schema.get("maxLength"))
    size = len(value) if isinstance(value, str) else value
    if (low is not None and size < low) or (high is not None and size > high):
        return [(path, f"must be from {low or 0} to {high}{' characters' if isinstance(value, str) else ''}")]
    return []


def _object_faults(value: dict[str, Any], schema: Schema, path: str) -> list[tuple[str, str]]:
    missing = [(f"{path}.{name}", "is required") for name in schema.get("required", ()) if name not in value]
    if "additionalProperties" in schema:
        inner = [fault for key, item in value.items() for fault in faults(item, schema["additionalProperties"], f"{path}.{key}")]
        return missing + inner
    known = schema["properties"]
    unknown = [(f"{path}.{name}", "is not supported here: remove it") for name in value if name not in known]
    inner = [fault for name, item in value.items() if name in known for fault in faults(item, known[name], f"{path}.{name}")]
    return missing + unknown + inner
