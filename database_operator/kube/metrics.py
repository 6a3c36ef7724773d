"""The runtime's metrics, by the names, labels and buckets of controller-runtime and client-go."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.metrics import MetricWrapperBase

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

_QUEUE = ["name", "controller"]
# prometheus.ExponentialBuckets(10e-9, 10, 12) in controller-runtime's workqueue metrics
_QUEUE_BUCKETS = tuple(10.0**exponent for exponent in range(-8, 4))
# controller-runtime pkg/internal/controller/metrics
_RECONCILE_BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9),
    *(1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 60),
)

REQUESTS = Counter("rest_client_requests", "HTTP requests by status code, method and host", ["code", "method", "host"], registry=REGISTRY)

QUEUE_DEPTH = Gauge("workqueue_depth", "Current depth of the queue", _QUEUE, registry=REGISTRY)
QUEUE_ADDS = Counter("workqueue_adds", "Keys added to the queue", _QUEUE, registry=REGISTRY)
QUEUE_RETRIES = Counter("workqueue_retries", "Keys put back after an error", _QUEUE, registry=REGISTRY)
QUEUE_WAIT = Histogram(
    "workqueue_queue_duration_seconds", "How long a key waits in the queue", _QUEUE, buckets=_QUEUE_BUCKETS, registry=REGISTRY
)
QUEUE_WORK = Histogram("workqueue_work_duration_seconds", "How long a key is worked on", _QUEUE, buckets=_QUEUE_BUCKETS, registry=REGISTRY)
QUEUE_UNFINISHED = Gauge("workqueue_unfinished_work_seconds", "Age of all work in progress, summed", _QUEUE, registry=REGISTRY)
QUEUE_LONGEST = Gauge("workqueue_longest_running_processor_seconds", "Age of the oldest work in progress", _QUEUE, registry=REGISTRY)

RECONCILES = Counter("controller_runtime_reconcile", "Passes by controller and result", ["controller", "result"], registry=REGISTRY)
RECONCILE_ERRORS = Counter("controller_runtime_reconcile_errors", "Passes that failed", ["controller"], registry=REGISTRY)
RECONCILE_TIME = Histogram(
    "controller_runtime_reconcile_time_seconds", "Length of a pass", ["controller"], buckets=_RECONCILE_BUCKETS, registry=REGISTRY
)
ACTIVE_WORKERS = Gauge("controller_runtime_active_workers", "Workers in a pass", ["controller"], registry=REGISTRY)
MAX_WORKERS = Gauge("controller_runtime_max_concurrent_reconciles", "Workers there are", ["controller"], registry=REGISTRY)

LEADER = Gauge("leader_election_master_status", "1 while this process leads", ["name"], registry=REGISTRY)


def reset() -> None:
    """Forget every labelled series, so that a test starts from nothing."""
    for metric in list(globals().values()):
        if isinstance(metric, MetricWrapperBase):
            metric.clear()
