"""A process that signs a ConfigMap for as long as it leads: ``leader_process.py KUBECONFIG IDENTITY``."""

import asyncio
import sys

from database_operator.kube import auth
from database_operator.kube.client import Client
from database_operator.kube.errors import Unavailable
from database_operator.kube.lease import Lease, LeaseLost, Timing
from database_operator.kube.resources import CONFIG_MAP
from tests.kube.support import config_map

TIMING = Timing(duration=3.0, renew_deadline=2.0, renew_every=0.5, retry=0.3)


async def sign(client: Client, identity: str) -> None:
    count = 0
    while True:
        count += 1
        try:
            await client.apply(CONFIG_MAP, config_map("signed", data={"by": identity, "count": str(count)}))
        except Unavailable as error:
            print(f"no write: {error.reason}", flush=True)
        await asyncio.sleep(0.02)


async def main(kubeconfig: str, identity: str) -> None:
    client = Client(auth.load(kubeconfig), user_agent=identity)
    lease = Lease(client, namespace="default", name="leader", identity=identity, timing=TIMING)
    client.may_write = lease.may_write
    await lease.acquire()
    print("leading", flush=True)
    signing = asyncio.create_task(sign(client, identity))
    try:
        await lease.hold()
    except LeaseLost as lost:
        print(f"lost: {lost}", flush=True)
    finally:
        signing.cancel()
        await client.close()
        await lease._client.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
