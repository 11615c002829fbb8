"""Run a proxy whose configuration is good: choose the loop, set up the log, start, live, end."""

import asyncio
import contextlib
import faulthandler
import gc
import os
import resource
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from weft.api.problems import Problem
from weft.proxy.assemble import ServerSettings
from weft.proxy.observe import logging
from weft.proxy.observe.access_log import open_access_logs
from weft.proxy.process.carriers import StartError
from weft.proxy.process.options import DEFAULT_LOG_FORMAT, Options
from weft.proxy.process.server import Server, write_file
from weft.proxy.process.version import version

if TYPE_CHECKING:
    from weft.proxy.admin.server import Admin

_LOG = logging.logger("main")
_CONFIG_LOG = logging.logger("config")

_GC_THRESHOLDS = (20_000, 20, 100)
"""Requests make almost no cycles, and what is made at start is frozen: the collector seldom finds
anything, so it looks seldom."""


def serve(options: Options, settings: ServerSettings, warnings: Sequence[Problem], started: float, *, init_only: bool) -> int:  # fmt: skip
    """The exit status."""
    try:
        _set_up_log(options, settings)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for problem in warnings:
        _CONFIG_LOG.warning("%s", problem)
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # until they mean something: their default is death
    gc.set_threshold(*_GC_THRESHOLDS)
    _raise_file_limit()
    if options.enable_core_dump:
        _allow_core_dumps()
    faulthandler.enable()
    _LOG.info("initializing epoch %d (base id=%d, version=%s)", options.restart_epoch, options.base_id, version())
    if options.concurrency == 1:
        import uvloop

        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    else:
        # Main forks, and must be able to do so at any time: libuv keeps state that a fork breaks.
        loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(_serve(options, settings, started, init_only))
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _serve(options: Options, settings: ServerSettings, started: float, init_only: bool) -> int:
    server = Server(options, settings, started)
    admin: Admin | None = None
    status = 0
    try:
        if options.base_id_path:
            write_file(options.base_id_path, str(options.base_id))
        admin = await _start_admin(server)
        await server.start()
        if not init_only:
            await server.live()
    except (StartError, OSError) as error:
        _LOG.critical("error initializing configuration '%s': %s", options.config_path, error)
        status = 1
    finally:
        await server.stop()
        if admin is not None:
            admin.close()
    _LOG.info("exiting")
    return status


async def _start_admin(server: Server) -> "Admin | None":
    """The admin server, which is there before the workers are; None when there is to be none."""
    from weft.proxy.admin.server import Admin
    from weft.proxy.process.view import ProcessView

    settings = server.settings.admin
    if settings is None:
        return None
    admin = Admin(
        ProcessView(server),
        asyncio.get_running_loop(),
        allow_paths=settings.allow_paths,
        access_logs=tuple(open_access_logs(settings.access_logs, server.context)),
        store=server.stats,
    )
    path = server.options.admin_address_path
    try:
        address = await admin.start(settings.address, mode=settings.mode, address_path=path)
    except OSError as error:
        if path and str(error.filename or "").startswith(path):
            raise StartError(f"--admin-address-path: cannot write '{path}': {error.strerror}") from error
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise StartError(f"admin: cannot bind '{settings.address.text}': {reason}") from error
    logging.logger("admin").info("admin address: %s", address.text)
    return admin


def _set_up_log(options: Options, settings: ServerSettings) -> None:
    pattern = options.log_format
    if settings.log_format:
        if pattern != DEFAULT_LOG_FORMAT:
            raise ValueError("Only one of ApplicationLogConfig.log_format or CLI option --log-format can be specified.")
        pattern = settings.log_format
    logging.configure(
        level=options.log_level,
        components=options.component_log_level,
        format=pattern,
        escaped=options.log_format_escaped,
        path=options.log_path,
    )


def _raise_file_limit() -> None:
    """As many descriptors as we may have: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _allow_core_dumps() -> None:
    with contextlib.suppress(ValueError, OSError):
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))

