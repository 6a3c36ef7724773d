"""The manifests a cluster gets: applied to a real API server, with the rights they give and the rules they keep."""

import ast
import json
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from database_operator import rights
from database_operator.engines.registry import ENGINES
from database_operator.kube import resources
from localcluster import ControlPlane
from tests.api.cases import spec
from tests.apiserver import DATABASES, NAMESPACE, ApiServer, Refused, database

PROJECT = Path(__file__).resolve().parents[2]
BASE = PROJECT / "deploy/base"
OPERATOR = "system:serviceaccount:database-operator-system:database-operator"
AGENT_RULES = [rule for engine in ENGINES.values() for rule in engine.agent_rules or ()]


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((BASE / name).read_text()))


class TestText:
    """What the files say, without a server."""

    def test_the_image_is_this_version(self) -> None:
        version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
        (kustomization,) = documents("kustomization.yaml")
        assert kustomization["images"] == [{"name": "database-operator", "newName": "database-operator", "newTag": version}]

    def test_no_right_is_wider_than_the_calls(self) -> None:
        given = [rule for name in ("rbac.yaml", "rbac-secrets.yaml") for role in documents(name) for rule in role.get("rules", ())]
        assert given
        for rule in given:
            words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert not words & {
                "*",
                "escalate",
                "bind",
                "impersonate",
                "deletecollection",
                "pods/exec",
                "pods/attach",
                "pods/portforward",
                "nodes",
            }

    def test_secrets_are_written_by_a_role_of_its_own(self) -> None:
        (read,) = (rule["verbs"] for role in documents("rbac.yaml") for rule in role.get("rules", ()) if "secrets" in rule["resources"])
        assert set(read) == {"get", "list", "watch"}
        assert [rule["resources"] for role in documents("rbac-secrets.yaml") for rule in role.get("rules", ())] == [["secrets"]]

    def test_every_kind_that_the_operator_names_has_rights(self) -> None:
        """Read from the sources: ``r.SECRET`` in reconcile or kube without a right would be a 403 in somebody's cluster."""
        named = set()
        for path in [*(PROJECT / "database_operator/reconcile").rglob("*.py"), *(PROJECT / "database_operator").glob("*.py")]:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("r", "resources"):
                    named.add(getattr(resources, node.attr, None))
        used = {kind for kind in named if isinstance(kind, resources.Resource)} - {resources.LEASE}
        assert resources.STATEFUL_SET in used
        assert used <= set(rights.KINDS)

    def test_the_operator_holds_what_its_agents_get(self) -> None:
        held = rights.operator_rights(AGENT_RULES)
        for rule in AGENT_RULES:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    assert set(rule["verbs"]) <= held[group, resource]


@pytest.fixture(scope="module")
def installed(control_plane: ControlPlane, apiserver: ApiServer) -> ApiServer:
    control_plane.kubectl("apply", "-k", str(BASE))
    return apiserver


def may(server: ApiServer, verb: str, group: str, resource: str, user: str = OPERATOR, namespace: str = NAMESPACE) -> bool:
    name, _, subresource = resource.partition("/")
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": name, "subresource": subresource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": attributes},
    }
    allowed: bool = server.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"]
    return allowed


@pytest.mark.apiserver
class TestInstalled:
    def test_kubectl_apply_takes_it_twice(self, installed: ApiServer, control_plane: ControlPlane) -> None:
        again = control_plane.kubectl("apply", "-k", str(BASE)).splitlines()
        assert again
        assert all(line.endswith(("unchanged", "configured")) for line in again)
        assert [line for line in again if "deployment" in line] == ["deployment.apps/database-operator unchanged"]

    def test_the_agents_get_the_same_image(self, installed: ApiServer) -> None:
        deployment = installed.call("GET", "/apis/apps/v1/namespaces/database-operator-system/deployments/database-operator")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        image = {variable["name"]: variable.get("value") for variable in container["env"]}["AGENT_IMAGE"]
        assert container["image"] == image
        assert ":" in image

    def test_the_pod_passes_the_restricted_profile(self, installed: ApiServer) -> None:
        deployment = installed.call("GET", "/apis/apps/v1/namespaces/database-operator-system/deployments/database-operator")
        template = deployment["spec"]["template"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"} | template["metadata"], "spec": template["spec"]}
        installed.call("POST", "/api/v1/namespaces/database-operator-system/pods?dryRun=All", pod)
        pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
        with pytest.raises(Refused, match="violates PodSecurity"):
            installed.call("POST", "/api/v1/namespaces/database-operator-system/pods?dryRun=All", pod)

    @pytest.mark.parametrize(
        ("verb", "group", "resource"),
        [
            ("create", "apps", "statefulsets"),
            ("delete", "", "pods"),
            ("patch", "databases.database-operator.io", "databases/status"),
            ("update", "databases.database-operator.io", "databases/finalizers"),
            ("create", "", "secrets"),
        ],
    )
    def test_the_operator_may(self, installed: ApiServer, verb: str, group: str, resource: str) -> None:
        assert may(installed, verb, group, resource)

    @pytest.mark.parametrize(
        ("verb", "group", "resource"),
        [
            ("create", "", "pods/exec"),
            ("create", "", "pods"),
            ("delete", "databases.database-operator.io", "databases"),
            ("escalate", "rbac.authorization.k8s.io", "roles"),
            ("bind", "rbac.authorization.k8s.io", "roles"),
            ("update", "coordination.k8s.io", "leases"),
            ("get", "", "nodes"),
        ],
    )
    def test_the_operator_may_not(self, installed: ApiServer, verb: str, group: str, resource: str) -> None:
        assert not may(installed, verb, group, resource)

    def test_its_lease_is_in_its_own_namespace(self, installed: ApiServer) -> None:
        assert may(installed, "update", "coordination.k8s.io", "leases", namespace="database-operator-system")

    def test_the_operator_may_grant_what_the_agents_need(self, installed: ApiServer) -> None:
        """Kubernetes itself decides: a Role with more than the operator holds would be refused as escalation."""
        path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"
        kind = "rbac.authorization.k8s.io/v1"
        for index, engine in enumerate(engine for engine in ENGINES.values() if engine.agent_rules):
            head = {"name": f"agent-{index}", "namespace": NAMESPACE}
            role = {"apiVersion": kind, "kind": "Role", "metadata": head, "rules": list(engine.agent_rules or ())}
            installed.call("POST", f"{path}/roles", role, user=OPERATOR)
            reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": head["name"]}
            subject = {"kind": "ServiceAccount", "name": "x", "namespace": NAMESPACE}
            binding = {"apiVersion": kind, "kind": "RoleBinding", "metadata": head, "roleRef": reference, "subjects": [subject]}
            installed.call("POST", f"{path}/rolebindings", binding, user=OPERATOR)
        more = {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]}
        with pytest.raises(Refused, match="is attempting to grant RBAC permissions not currently held"):
            role = {"apiVersion": kind, "kind": "Role", "metadata": {"name": "more", "namespace": NAMESPACE}, "rules": [more]}
            installed.call("POST", f"{path}/roles", role, user=OPERATOR)

    def test_users_get_their_rights_by_aggregation(self, installed: ApiServer) -> None:
        roles = installed.call("GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles")["items"]
        labels = {role["metadata"]["name"]: role["metadata"].get("labels", {}) for role in roles}
        assert labels["database-operator-view"]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
        assert labels["database-operator-edit"]["rbac.authorization.k8s.io/aggregate-to-edit"] == "true"
        assert "rbac.authorization.k8s.io/aggregate-to-view" not in labels["database-operator-edit"]
        assert labels["database-operator-service-binding"]["servicebinding.io/controller"] == "true"


@pytest.mark.apiserver
class TestDoNotDelete:
    @pytest.fixture
    def kept(self, installed: ApiServer) -> ApiServer:
        installed.call("POST", DATABASES, database(spec("Redis", deletionPolicy="DoNotDelete"), "kept"))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:  # a policy is in force some time after it is stored: the server looks each second
            try:
                installed.call("DELETE", f"{DATABASES}/kept?dryRun=All")
            except Refused:
                return installed
            time.sleep(0.05)
        raise AssertionError("the policy never came into force")

    @pytest.mark.proves("deletionPolicy.DoNotDelete")
    def test_only_the_policy_changed_first_lets_it_go(self, kept: ApiServer) -> None:
        with pytest.raises(Refused) as refused:
            kept.call("DELETE", f"{DATABASES}/kept")
        assert refused.value.status == 403
        assert f"Database {NAMESPACE}/kept has spec.deletionPolicy DoNotDelete: set it to Retain" in json.dumps(str(refused.value))
        with pytest.raises(Refused, match="DoNotDelete"):
            kept.call("DELETE", DATABASES)
        kept.merge(f"{DATABASES}/kept", {"spec": {"deletionPolicy": "Retain"}})
        kept.call("DELETE", f"{DATABASES}/kept")
        with pytest.raises(Refused, match="not found"):
            kept.call("GET", f"{DATABASES}/kept")

    def test_others_are_deleted_as_ever(self, installed: ApiServer) -> None:
        for name, policy in (("a", {}), ("b", {"deletionPolicy": "Delete"})):
            installed.call("POST", DATABASES, database(spec("Redis", **policy), name))
            installed.call("DELETE", f"{DATABASES}/{name}")
