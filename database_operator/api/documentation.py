"""What each field means and what a change of it does: for ``kubectl explain`` and the reference tables."""

from msgspec import Struct

REFUSED, LIVE, ROLLING, NEXT = "refused", "live", "rolling", "next start"


class Entry(Struct, frozen=True):
    """``change``: refused, live, rolling (one pod after another) or the next start of a pod; "" where the parts say it."""

    meaning: str
    change: str = ""
    default: str = ""  # where the Struct's own default is not the whole truth


_SECRET = Entry("The Secret that holds the password. Without it a random one is made.", LIVE, "generated")
_PARAMETERS = 'They are applied, and removing one restores its default. Text or whole numbers: quote "on", "true" and "0.5".'

FIELDS: dict[str, Entry] = {
    "DatabaseSpec.type": Entry("Which database to run.", REFUSED),
    "DatabaseSpec.version": Entry("Tag of the official image. It says what runs even when image is set.", ROLLING),
    "DatabaseSpec.image": Entry("Full image reference, instead of the official image.", ROLLING, "the official image"),
    "DatabaseSpec.imagePullPolicy": Entry("When the kubelet pulls the image.", NEXT, "IfNotPresent"),
    "DatabaseSpec.imagePullSecrets": Entry("Secrets to pull the image with.", NEXT),
    "DatabaseSpec.replicas": Entry("Number of members; 0 stops the database and keeps its data.", LIVE),
    "DatabaseSpec.storage": Entry("The volume of each member."),
    "DatabaseSpec.resources": Entry("Requests and limits of the database container, exactly as written."),
    "DatabaseSpec.postgresql": Entry("Settings of a PostgreSQL Database."),
    "DatabaseSpec.mongodb": Entry("Settings of a MongoDB Database."),
    "DatabaseSpec.redis": Entry("Settings of a Redis Database."),
    "DatabaseSpec.elasticsearch": Entry("Settings of an Elasticsearch Database. The user is elastic."),
    "DatabaseSpec.sqlite": Entry("Settings of an SQLite Database."),
    "DatabaseSpec.env": Entry("Variables added to the database container. Names that would break it are refused.", ROLLING),
    "DatabaseSpec.deletionPolicy": Entry("What deleting the Database does: keep the data, delete it, or refuse to be deleted.", LIVE),
    "DatabaseSpec.pods": Entry("How the database pods run."),
    "DatabaseSpec.service": Entry("How the Service <name>-service is published."),
    "NameRef.name": Entry("Name of the object, in the Database's namespace."),
    "SecretKeyRef.name": Entry("Name of the Secret, in the Database's namespace."),
    "SecretKeyRef.key": Entry("Key in the Secret."),
    "StorageSpec.size": Entry("Size of the volume. It may grow, never shrink; left out it counts as 10Gi.", LIVE),
    "StorageSpec.storageClassName": Entry("StorageClass of the volume.", REFUSED, "the cluster's default class"),
    "StorageSpec.accessMode": Entry("Access mode of the volume.", REFUSED),
    "ResourcesSpec.cpu": Entry("CPU request.", ROLLING),
    "ResourcesSpec.memory": Entry("Memory request.", ROLLING),
    "ResourcesSpec.cpuLimit": Entry("CPU limit.", ROLLING),
    "ResourcesSpec.memoryLimit": Entry("Memory limit. Buffers and heaps follow it unless a parameter sets them.", ROLLING),
    "PostgreSQLSpec.database": Entry("The database that is created.", REFUSED),
    "PostgreSQLSpec.username": Entry("Its owner. postgres is the superuser, any other name is not.", REFUSED),
    "PostgreSQLSpec.passwordSecret": _SECRET,
    "PostgreSQLSpec.parameters": Entry(f"PostgreSQL settings. {_PARAMETERS}", "live or rolling, as the setting allows"),
    "PostgreSQLSpec.synchronous": Entry("Whether a write waits for a replica: never, when there is one, always.", LIVE),
    "MongoDBSpec.database": Entry("The database that bindings name.", REFUSED),
    "MongoDBSpec.username": Entry("The first user, with the role root.", REFUSED),
    "MongoDBSpec.passwordSecret": _SECRET,
    "MongoDBSpec.replicaSetName": Entry("Name of the replica set.", REFUSED),
    "MongoDBSpec.parameters": Entry(f"mongod options: cacheSizeGB, or dotted keys of mongod.conf. {_PARAMETERS}", "live or rolling"),
    "RedisSpec.passwordSecret": _SECRET,
    "RedisSpec.mode": Entry(
        "How members work together.",
        "to or from cluster refused; standalone to sentinel and back live",
        "standalone at 0 and 1 replica, sentinel above",
    ),
    "RedisSpec.shards": Entry("Primaries of a cluster; replicas counts all members.", LIVE, "3"),
    "RedisSpec.parameters": Entry(f"redis.conf directives. {_PARAMETERS}", "live or rolling, as the directive allows"),
    "ElasticsearchSpec.clusterName": Entry("Name of the cluster.", REFUSED, "the Database's name"),
    "ElasticsearchSpec.nodeRoles": Entry("Roles of every node.", ROLLING, "all roles"),
    "ElasticsearchSpec.passwordSecret": _SECRET,
    "ElasticsearchSpec.parameters": Entry(f"elasticsearch.yml settings. {_PARAMETERS}", "live or rolling, as the setting allows"),
    "SQLiteSpec.databaseFile": Entry("The file under /data, as app.db or /data/app.db.", REFUSED),
    "SQLiteSpec.passwordSecret": Entry("The Secret that holds the access token. Without it a random one is made.", LIVE, "generated"),
    "SQLiteSpec.parameters": Entry(f"Pragmas, such as journal_mode. {_PARAMETERS}", LIVE),
    "EnvVar.name": Entry("Name of the variable."),
    "EnvVar.value": Entry("Its value, taken literally. At most one of value and valueFrom.", "", "empty"),
    "EnvVar.valueFrom": Entry("Where its value comes from."),
    "EnvValueFrom.secretKeyRef": Entry("A key of a Secret."),
    "PodsSpec.labels": Entry("More labels of the pods.", LIVE),
    "PodsSpec.annotations": Entry("More annotations of the pods.", LIVE),
    "PodsSpec.spread": Entry("Whether members go to different nodes; zones are always spread as well as can be.", ROLLING),
    "PodsSpec.nodeSelector": Entry("Labels a node must have.", ROLLING),
    "PodsSpec.affinity": Entry("As in a pod.", ROLLING, "none"),
    "PodsSpec.tolerations": Entry("As in a pod.", ROLLING),
    "PodsSpec.topologySpreadConstraints": Entry("As in a pod; they replace spread.", ROLLING),
    "PodsSpec.priorityClassName": Entry("As in a pod.", ROLLING, "none"),
    "PodsSpec.schedulerName": Entry("As in a pod.", ROLLING, "the default scheduler"),
    "PodsSpec.terminationGracePeriodSeconds": Entry("Time a member has to stop, in seconds.", NEXT, "60, 120 or 30, by engine"),
    "PodsSpec.securityContext": Entry("As in a pod, within the restricted profile.", ROLLING, "the engine's user and group"),
    "PublishedService.type": Entry("Type of the Service.", LIVE),
    "PublishedService.annotations": Entry("More annotations of the Service.", LIVE),
    "PublishedService.labels": Entry("More labels of the Service.", LIVE),
    "PublishedService.loadBalancerClass": Entry("Which load balancer takes it.", LIVE, "the cluster's"),
    "PublishedService.loadBalancerSourceRanges": Entry("Addresses that may reach the load balancer.", LIVE),
    "PublishedService.externalTrafficPolicy": Entry("Whether traffic may cross nodes.", LIVE, "Cluster"),
    "PublishedService.nodePort": Entry("Port on every node.", LIVE, "chosen by the cluster"),
    "ServiceSpec.readOnly": Entry("How the Service <name>-ro is published. PostgreSQL, MongoDB and Redis.", LIVE),
}

PHASES = {
    "Pending": "nothing runs yet; the message says what is waited for",
    "Creating": "members are made or made anew, and not all of them answer",
    "Ready": "every member answers",
    "Failed": "a reason that only a person can mend, or one that has stood for two minutes; it is tried again, and mending it heals",
    "Upgrading": "every member answers, and they take up another version one after another",
    "Stopped": "replicas is 0; the data is kept",
    "Deleting": "it goes with its data (deletionPolicy: Delete)",
}

CONDITIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Ready": (
        "True while the members answer as the spec asks.",
        (
            "DatabaseReady: every member's pod is Ready, and its probe has asked the database",
            "Creating: the children are made, the members start",
            "Stopped: replicas is 0; the data is kept",
            "ReconciliationFailed: a call to the API server failed; it is tried again",
            "InvalidSpec: the spec breaks a rule that admission did not see; the message names field and remedy",
            "SecretNotFound: a Secret or a key in it is missing; looked at again every 10 s",
            "NameConflict: an object that belongs to somebody else has a child's name",
            "DataConflict: kept data is of another engine or major version, or its credentials are gone",
            "ImageNotPulled: a node cannot pull the image",
            "Unschedulable: no node takes a pod",
            "QuotaExceeded: a quota of the namespace leaves no room",
            "StorageClassNotFound: the StorageClass is missing, or there is no default one",
            "CrashLooping: the database keeps ending; the message holds its last line",
        ),
    ),
    "Progressing": (
        "True while something changes.",
        (
            "RollingOut: pods take up a change one after another",
            "Scaling: members are added or removed",
            "Growing: volumes are made larger",
            "UpdatePending: something is not in force and restarts nothing: what waits for the pods' next start (a newer operator's "
            "template, a grace period, a pull policy), or a parameter that the server does not take, which the message names",
            "UpgradeNotSupported: the new version is held back; the pods stay, and reverting heals",
            "Paused: the annotation reconcile: disabled is set",
            "Settled: nothing is left to do",
        ),
    ),
    "Degraded": (
        "True while the database answers with less than the spec asks for.",
        (
            "MemberDown: a member does not answer",
            "Lagging: a replica is more than 16 MiB behind",
            "QuorumLost: too few members or Sentinels are left to elect a primary, or writes wait for a synchronous standby",
            "DurabilityReduced: a confirmed write may be lost, by a setting (fsync, appendonly), for want of a synchronous standby, or as "
            "Redis cannot write its files",
            "NoReplicas: the primary has no replica that could take over",
            "EvenVoters: an even number of voters tolerates no more failures than one fewer",
            "AllMembersHealthy: nothing is wrong",
        ),
    ),
    "Reachable": (
        "False while the operator cannot reach a member whose pod is Ready.",
        (
            "Reached: every member that is Ready answered",
            "Unreachable: a NetworkPolicy or a mesh stands between",
        ),
    ),
}


def description(owner: str, field: str) -> str:
    """The meaning of a field of a Struct. Raises KeyError for one that nobody described."""
    return FIELDS[f"{owner}.{field}"].meaning
