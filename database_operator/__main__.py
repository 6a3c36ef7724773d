"""``database-operator``: flags and environment -> Config -> manager."""

import asyncio
import logging
import sys

from database_operator import config
from database_operator.kube import logs
from database_operator.kube.auth import ConfigError

log = logging.getLogger("database_operator")


def main() -> None:
    """Exit codes: 0 stopped as asked, 1 could not go on (the reason in one line), 2 bad flags."""
    settings = config.parse(sys.argv[1:])
    logs.setup(settings.log_level)
    from database_operator.manager import LeaseLost, Manager  # imported late: --help and bad flags answer at once

    try:
        asyncio.run(Manager(settings).run())
    except (ConfigError, LeaseLost, OSError) as error:
        log.error("cannot go on", exc_info=error)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
