"""What is known of the members: the pods of the local copy joined with the prober's last answers. No I/O."""

from database_operator.api.database import Resolved
from database_operator.api.status import Role
from database_operator.build import constants as c
from database_operator.build import labels, names
from database_operator.build.manifest import Manifest
from database_operator.engines.base import Member, Observation, Probe
from database_operator.kube.objects import Key
from database_operator.reconcile.context import Context
from database_operator.reconcile.data import stored_claims
from database_operator.reconcile.views import PodMeta, PodView, WorkloadView

REVISION = "controller-revision-hash"


def workload(ctx: Context, database: Resolved) -> WorkloadView | None:
    """The main workload of this very Database, as last seen."""
    store = ctx.stores.deployments if ctx.engines[database.type].workload == "Deployment" else ctx.stores.stateful_sets
    found = store.get(database.namespace, names.workload(database.name))
    return found if found is not None and found.metadata.controller_uid == database.uid else None


def adoptable(pod: PodView, prefix: str) -> bool:
    """A StatefulSet ``prefix`` takes this pod for its own: left by one that is made anew around its running members."""
    stem, _, ordinal = pod.metadata.name.rpartition("-")
    return not pod.metadata.controller_uid and stem == prefix and ordinal.isdigit() and pod.metadata.annotations.inputs is not None


def pods(ctx: Context, database: Resolved, component: str = labels.DATABASE_COMPONENT) -> list[PodView]:
    """Pods of a workload of this Database, sorted by name. A label alone does not make a pod ours: it has our workload as owner."""
    prefix = names.workload(database.name) if component == labels.DATABASE_COMPONENT else names.sentinel(database.name)
    found = []
    for pod in ctx.stores.pods.by_index("app", str(Key(database.namespace, database.name))):
        owner = next((owner for owner in pod.metadata.owner_references if owner.controller), None)
        by_set = adoptable(pod, prefix) if owner is None else owner.kind == "StatefulSet" and owner.name == prefix
        by_deployment = owner is not None and owner.kind == "ReplicaSet" and owner.name.startswith(f"{prefix}-")
        if pod.metadata.labels.get(c.COMPONENT) == component and (by_set or by_deployment):
            found.append(pod)
    return sorted(found, key=lambda pod: pod.metadata.name)


def wanted_inputs(children: list[Manifest], database: Resolved) -> str | None:
    """The hash that a pod of the wanted template carries."""
    for child in children:
        if child["kind"] in ("StatefulSet", "Deployment") and child["metadata"]["name"] == names.workload(database.name):
            found: str = child["spec"]["template"]["metadata"]["annotations"][c.INPUTS]
            return found
    return None


def wanted_template(children: list[Manifest], database: Resolved) -> str:
    """The hash that a Deployment's pod of the wanted template carries; empty for a StatefulSet, which has revisions."""
    for child in children:
        if child["kind"] == "Deployment" and child["metadata"]["name"] == names.workload(database.name):
            return str(child["spec"]["template"]["metadata"]["annotations"][c.TEMPLATE])
    return ""


def member(pod: PodView, probe: Probe | None, asked: bool, inputs: str | None, revision: str) -> Member:
    container = pod.database
    head = pod.metadata
    running = container is not None and container.state.running is not None
    outdated = inputs is not None and head.annotations.inputs is not None and head.annotations.inputs != inputs
    labelled = head.labels.get(c.ROLE)
    known = probe or Probe()
    return Member(
        pod=head.name,
        uid=head.uid,
        ip=pod.status.pod_ip,
        node=pod.spec.node_name,
        ready=pod.ready,
        running=running,
        was_ready=pod.ready or (container is not None and bool(container.started)),
        terminating=head.deletion_timestamp is not None,
        inputs=head.annotations.inputs,
        outdated=outdated,
        revision_outdated=not outdated and bool(revision) and _revision(head) != revision,
        image=container.image if container else "",
        role_label=labelled,
        role=known.role if known.role is not Role.UNKNOWN or probe is not None else _role(labelled),
        version=known.version,
        lag_bytes=known.lag_bytes,
        pending_restart=known.pending_restart,
        shard=known.shard,
        reached=(probe is not None) if asked else None,
        facts=known.facts,
    )


def _revision(head: PodMeta) -> str | None:
    """Of the template a pod was made of: a StatefulSet's own, or the hash that a Deployment's carries."""
    return head.labels.get(REVISION) or head.annotations.template


def _role(label: str | None) -> Role:
    """Before the first answer, what the engine's own agent wrote onto the pod."""
    return Role(label) if label in ("primary", "replica", "arbiter") else Role.UNKNOWN


def observation(ctx: Context, database: Resolved, children: list[Manifest]) -> Observation:
    """The members as they are, with ``outdated`` measured against the wanted template in ``children``."""
    answers = ctx.probes.answers(Key(database.namespace, database.name))
    inputs = wanted_inputs(children, database)
    found = workload(ctx, database)
    revision = (found.status.update_revision or wanted_template(children, database)) if found else ""
    members = tuple(
        member(pod, answers.get(pod.metadata.uid), pod.metadata.uid in answers, inputs, revision) for pod in pods(ctx, database)
    )
    probes = [answers[m.uid] for m in members if answers.get(m.uid) is not None]
    cluster_ids = sorted({probe.cluster_id for probe in probes if probe and probe.cluster_id})
    formed = sorted(
        {claim.metadata.annotations[c.FORMED] for claim in stored_claims(ctx, database) if c.FORMED in claim.metadata.annotations}
    )
    return Observation(
        members=members,
        wanted=database.spec.replicas,
        cluster_id=cluster_ids[0] if len(cluster_ids) == 1 else None,
        formed=formed[0] if formed else None,
        facts=_helpers(ctx, database),
    )


def _helpers(ctx: Context, database: Resolved) -> dict[str, int]:
    """Ready pods beside the members, by what they are."""
    helpers = ctx.engines[database.type].helpers(database)
    return {fact: sum(pod.ready for pod in pods(ctx, database, component)) for fact, component in helpers.items()}
