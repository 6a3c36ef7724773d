"""Have a workload's controller look at once.

One that was refused a pod, or failed otherwise, tries again after a back-off that doubles up to a quarter of an hour
(``DefaultTypedControllerRateLimiter`` of client-go), whatever was mended meanwhile. A change to the object has it try at once.
"""

import datetime

from database_operator.build import constants as c
from database_operator.kube import resources as r
from database_operator.kube.errors import ApiError
from database_operator.reconcile import observe
from database_operator.reconcile.context import Pass
from database_operator.reconcile.status import timestamp

AGAIN = 20.0  # seconds between two changes, and until the first: the controller's own first tries come sooner


def behind(at: Pass) -> bool:
    """The controller has not got to the workload as it was written last."""
    workload = observe.workload(at.ctx, at.database)
    return workload is not None and workload.status.observed_generation < workload.metadata.generation


def overlooked(at: Pass) -> bool:
    """Behind, and not for being new: with many Databases at once the controllers come to each in their own time."""
    workload = observe.workload(at.ctx, at.database)
    begun = workload is not None and workload.status.observed_generation > 0
    return behind(at) and (begun or bool(observe.pods(at.ctx, at.database)))


async def wake(at: Pass, *, stuck: bool) -> None:
    """Touch the workload once ``stuck`` has been true for ``AGAIN``, and again each ``AGAIN`` while it stays true."""
    workload, memory = observe.workload(at.ctx, at.database), at.memory
    if memory.stands("stuck", stuck and workload is not None, at.ctx.now()) < AGAIN or workload is None:
        return
    memory.since["stuck"] = at.ctx.now()
    head = workload.metadata
    kind = r.DEPLOYMENT if at.engine.workload == "Deployment" else r.STATEFUL_SET
    patch = {"metadata": {"uid": head.uid, "annotations": {c.WOKEN_AT: timestamp(datetime.datetime.now(datetime.UTC))}}}
    try:
        await at.ctx.client.patch(kind, head.namespace, head.name, patch)
    except ApiError:
        return  # the pass has more to say than this
