"""Patroni with what a member needs beside it. Patroni's classes are extended where it offers no setting."""

import logging
import os
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
from patroni import __main__ as daemon
from patroni import postgresql
from patroni.api import RestApiHandler
from patroni.postgresql import postmaster as patroni_postmaster
from patroni.postgresql.bootstrap import Bootstrap
from patroni.utils import polling_loop

from agent.postgresql import lock, postmaster, report, settings
from agent.postgresql import logins as sql
from agent.postgresql.keep import Files, Labels
from agent.postgresql.layout import (
    Layout,
    Server,
    clear_unfinished,
    hold_volume,
    mark_finished,
    mark_unfinished,
    server,
    wanted,
)
from agent.postgresql.watch import Watch, startup_message

log = logging.getLogger(__name__)

FIRST_START, CLONE = "first start", "clone"
POLL_SECONDS = 0.2  # Patroni looks once a second whether its server has stopped or been promoted: two seconds of each planned move
ENDS_SECONDS = 1.0  # that a server may take from its last checkpoint to its end
POSITIONS = ("xlog_location", "receive_lsn", "replay_lsn")


class MemberBootstrap(Bootstrap):  # type: ignore[misc,unused-ignore]  # Patroni is untyped
    """Marks data as unfinished while it is made, and makes the logins before anybody can be told of the new cluster."""

    def __init__(self, postgresql: Any, layout: Layout, found: Server) -> None:
        super().__init__(postgresql)
        self.layout, self.found = layout, found

    def call_post_bootstrap(self, config: Any) -> bool:
        try:
            known = settings.logins(self.layout)
            with sql.connect(self.layout, known) as connection:
                sql.first_start(connection, known)
        except (OSError, psycopg.Error) as error:
            log.error("the first start failed: %s: %s", type(error).__name__, error)
            return False
        return True

    def post_bootstrap(self, config: Any, task: Any) -> Any:
        result = super().post_bootstrap(config, task)
        if result:
            mark_finished(self.found)
        return result

    def create_replica(self, *arguments: Any, **keywords: Any) -> Any:
        mark_unfinished(self.found, CLONE)
        status = super().create_replica(*arguments, **keywords)
        if status == 0:
            mark_finished(self.found)
        return status


class MemberPostgresql(postgresql.Postgresql):  # type: ignore[misc,unused-ignore]
    """The server, with our database in it from the first moment, for Patroni's own session."""

    layout: Layout
    found: Server
    announce: Callable[[], None]

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.bootstrap = MemberBootstrap(self, self.layout, self.found)

    def stop(self, *arguments: Any, on_shutdown: Callable[[int, int], Any] | None = None, **keywords: Any) -> bool:
        """Patroni gives up the lock before the server has ended, as one that still archives takes long, and sleeps a second first.

        One that ends in a moment needs neither: Patroni gives up the lock when it has.
        """

        def lasts(*positions: int) -> None:
            server, deadline = self._postmaster_proc, time.monotonic() + ENDS_SECONDS
            while server is not None and server.is_running() and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS / 4)
            if on_shutdown is not None and server is not None and server.is_running():
                on_shutdown(*positions)

        return bool(super().stop(*arguments, on_shutdown=lasts if on_shutdown else None, **keywords))

    def promote(self, wait_seconds: int, task: Any, before_promote: Callable[[], Any] | None = None) -> Any:
        def begin() -> None:
            if before_promote is not None:
                before_promote()
            threading.Thread(target=self.announce, name="announce", daemon=True).start()

        return super().promote(wait_seconds, task, begin)

    def initdb(self, *arguments: str, **keywords: Any) -> bool:
        if not super().initdb(*arguments, **keywords):
            return False
        try:
            sql.create_operator_database(self.found)
        except (OSError, subprocess.CalledProcessError) as error:
            log.error("could not create the operator's database: %s", error)
            return False
        return True


class Member(daemon.Patroni):  # type: ignore[misc,unused-ignore]
    """The daemon of one pod."""

    layout: Layout
    found: Server
    content: dict[str, Any]
    cleared: str | None

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._touch, self._initialize = self.dcs.touch_member, self.dcs.initialize
        self.dcs.touch_member = self.touch_member
        self.dcs.initialize = self.initialize
        if self.cleared is not None:
            self._give_up_race()
            mark_finished(self.found)

    def _give_up_race(self) -> None:
        """Our own killed first start still holds the right to the next one, and would keep everybody from it for ever."""
        cluster = self.dcs.get_cluster()
        if self.cleared == FIRST_START and cluster.initialize == "" and cluster.is_unlocked():
            self.dcs.cancel_initialization()

    def initialize(self, create_new: bool = True, sysid: str = "") -> bool:
        """Winning the race for the first start is marked before it is entered: a kill between the two would leave it won for ever."""
        racing = create_new and not sysid
        if racing:
            mark_unfinished(self.found, FIRST_START)
        won = bool(self._initialize(create_new=create_new, sysid=sysid))
        if racing and not won:
            mark_finished(self.found)
        return won

    def touch_member(self, data: dict[str, Any]) -> Any:
        """A single member keeps its position to itself: nobody would read it, and each loop would write it to the API server."""
        cluster = self.dcs.cluster
        own = cluster.get_member(self.config["name"], False) if cluster and len(cluster.members) == 1 else None
        if own:
            data |= {key: own.data[key] for key in POSITIONS if key in data and key in own.data}
        return self._touch(data)

    def run(self) -> None:
        kubernetes = self.config["kubernetes"]
        listen = self.config["postgresql"]["listen"].rpartition(":")[2]
        socket = self.layout.run / f".s.PGSQL.{listen}"
        message = startup_message(settings.MONITOR_USER, settings.OPERATOR_DATABASE)
        self.watch = Watch(self, socket, message)
        labels = Labels(self, kubernetes["role_label"])
        self.postgresql.announce = labels.lead
        helpers = {
            "watch": self.watch.run,
            "files": Files(self, self.layout, self.found, self.content).run,
            "labels": labels.run,
        }
        for name, helper in helpers.items():
            threading.Thread(target=helper, name=name, daemon=True).start()
        super().run()


def serve(layout: Layout) -> int:
    """Runs until SIGTERM. Raises Unusable, OSError or KeyError before anything has been touched."""
    found = server(wanted(layout), os.environ)
    volume = hold_volume(found)
    cleared = clear_unfinished(found)
    if cleared:
        print(f"the last {cleared} was not finished: its data is removed and it is done again", flush=True)
    content = settings.configuration(layout, found, os.environ)
    settings.write(layout.configuration, content)
    warnings.simplefilter("ignore", FutureWarning)  # urllib3's, of how Patroni names the API server: nobody here can change it
    tempfile.tempdir = str(layout.run)  # initdb reads the superuser's password from a file: in memory only
    MemberPostgresql.layout = Member.layout = layout
    MemberPostgresql.found = Member.found = found
    Member.content, Member.cleared = content, cleared
    _extend_patroni()
    from patroni.daemon import abstract_main

    try:
        abstract_main(Member, str(layout.configuration))
    finally:
        os.close(volume)
    return 0


def _extend_patroni() -> None:
    """Where Patroni looks its own parts up."""
    from patroni.dcs.kubernetes import Kubernetes

    postgresql.Postgresql = MemberPostgresql
    patroni_postmaster.multiprocessing = postmaster
    postgresql.STOP_POLLING_INTERVAL = POLL_SECONDS
    postgresql.polling_loop = partial(polling_loop, interval=POLL_SECONDS)
    Kubernetes.attempt_to_acquire_leader = lock.patient(Kubernetes.attempt_to_acquire_leader)
    RestApiHandler.do_GET_parameters = report.answer
    patronis_own = RestApiHandler._readiness
    RestApiHandler._readiness = lambda handler: unready(handler.server.patroni) or patronis_own(handler)


def unready(patroni: Any) -> str | None:
    """Why this member takes no client, None where Patroni decides: it calls a leader ready whose server is down or in recovery."""
    if patroni.postgresql.state != "running":
        return "the server is not running"
    return "the server does not answer" if patroni.watch.failures else None
