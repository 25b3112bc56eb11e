"""`tailrace serve`: the gateway and the chat page."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import Any

import click

from tailrace.cli.command import Command
from tailrace.cli.kinds import Alias, Bytes, Count, OneOf, OnLeave, OptionOfModel, Seconds, gather
from tailrace.cli.session import Session
from tailrace.errors import RequestError, TailraceError
from tailrace.i18n import say

__all__ = ["command"]


@click.command("serve", cls=Command, help=say("help.serve"))
@click.option("--host", default="127.0.0.1", metavar="ADDRESS", help=say("help.serve_host"))
@click.option("--port", type=Count(0, 65535), default=8080, metavar="PORT", help=say("help.serve_port"))
@click.option("--upstream", "upstreams", multiple=True, metavar="UPSTREAM", help=say("help.serve_upstream"))
@click.option("-m", "--model", metavar="NAME", help=say("help.serve_model"))
@click.option("--alias", "aliases", type=Alias(), multiple=True, metavar="NAME=MODEL", help=say("help.serve_alias"))
@click.option(
    "--model-option",
    "model_options",
    type=OptionOfModel(),
    multiple=True,
    metavar="MODEL[:TAG]:NAME=VALUE",
    help=say("help.serve_model_option"),
)
@click.option("--timeout", type=Seconds(), metavar="SECONDS", help=say("help.timeout"))
@click.option("--on-leave", type=OnLeave(), metavar="cancel|continue|linger=SECONDS", help=say("help.serve_on_leave"))
@click.option("--linger", type=Seconds(), metavar="SECONDS", help=say("help.serve_linger"))
@click.option("--workers", type=Count(1, 64), default=1, metavar="COUNT", help=say("help.serve_workers"))
@click.option("--drain", type=Seconds(), default=10.0, metavar="SECONDS", help=say("help.serve_drain"))
@click.option("--keep", type=Seconds(), metavar="SECONDS", help=say("help.serve_keep"))
@click.option("--max-runs", type=Count(1, 1_000_000), metavar="COUNT", help=say("help.serve_max_runs"))
@click.option("--max-running", type=Count(1, 1_000_000), metavar="COUNT", help=say("help.serve_max_running"))
@click.option("--max-queued", type=Count(0, 1_000_000), metavar="COUNT", help=say("help.serve_max_queued"))
@click.option("--max-per-key", type=Count(1, 1_000_000), metavar="COUNT", help=say("help.serve_max_per_key"))
@click.option("--max-messages", type=Count(1, 1_000_000), metavar="COUNT", help=say("help.serve_max_messages"))
@click.option("--max-context", type=Count(0, 1 << 31), metavar="TOKENS", help=say("help.serve_max_context"))
@click.option("--max-tokens", type=Count(0, 1 << 31), metavar="TOKENS", help=say("help.serve_max_tokens"))
@click.option("--max-body", type=Bytes(), metavar="SIZE", help=say("help.serve_max_body"))
@click.option("--run-bytes", type=Bytes(), metavar="SIZE", help=say("help.serve_run_bytes"))
@click.option("--log-bytes", type=Bytes(), metavar="SIZE", help=say("help.serve_log_bytes"))
@click.option("--send-timeout", type=Seconds(), metavar="SECONDS", help=say("help.serve_send_timeout"))
@click.option("--ping", type=Seconds(), metavar="SECONDS", help=say("help.serve_ping"))
@click.option("--data", metavar="FOLDER", help=say("help.serve_data"))
@click.option("--database", metavar="FILE|URL", help=say("help.serve_database"))
@click.option("--api-key", "api_keys", multiple=True, metavar="[NAME:]KEY", help=say("help.serve_api_key"))
@click.option("--api-key-file", metavar="FILE", help=say("help.serve_api_key_file"))
@click.option("--insecure", is_flag=True, help=say("help.serve_insecure"))
@click.option("--admin", "admins", multiple=True, metavar="NAME", help=say("help.serve_admin"))
@click.option("--local-files", is_flag=True, help=say("help.serve_local_files"))
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help=say("help.serve_allow_host"))
@click.option("--allow-origin", "origins", multiple=True, metavar="ORIGIN", help=say("help.serve_allow_origin"))
@click.option("--proxy", "proxies", multiple=True, metavar="ADDRESS", help=say("help.serve_proxy"))
@click.option(
    "--telemetry", type=OneOf(("metadata", "contents")), metavar="metadata|contents", help=say("help.serve_telemetry")
)
@click.option("--no-page", is_flag=True, help=say("help.serve_no_page"))
@click.option("--head-time", type=Seconds(), hidden=True)
@click.option("--body-time", type=Seconds(), hidden=True)
@click.pass_obj
def command(session: Session, /, **given: Any) -> int:
    """Serves until a signal comes."""
    try:
        return _serve(session, given)
    except ModuleNotFoundError as error:
        raise TailraceError(say("error.no_serve", name=error.name or ""), hint=say("hint.no_serve")) from error


def _serve(session: Session, given: dict[str, Any]) -> int:
    from tailrace.gateway.access.hosts import is_local

    settings = _settings(given)
    if not (settings.keys or given["insecure"] or is_local(settings.host)):
        raise RequestError(say("error.public", host=settings.host), hint=say("hint.public"))
    if given["api_key_file"]:
        _warn_of_readers(session, Path(given["api_key_file"]))

    def ready(address: tuple[str, int]) -> None:
        host, port = address
        shown = f"[{host}]" if ":" in host else host
        session.err.line(say("note.serving", url=f"http://{shown}:{port}"))

    if given["workers"] > 1:
        from tailrace.gateway.cluster.parent import Parent

        return Parent(settings, given["workers"], ready=ready, note=session.err.line).run()

    from tailrace.gateway.app import create_app
    from tailrace.gateway.server.serve import serve
    from tailrace.gateway.server.sockets import listen

    app = create_app(settings)
    listener = listen(settings.host, settings.port)
    serve(app, listener, ready=lambda: ready(listener.getsockname()[:2]))
    return 0


def _warn_of_readers(session: Session, path: Path) -> None:
    """Says that a file with keys can be read or changed by others than its owner."""
    status = path.stat()
    if os.name == "posix" and stat.S_ISREG(status.st_mode) and status.st_mode & 0o066:
        session.err.line(say("note.key_file", path=path, mode=f"{stat.S_IMODE(status.st_mode):04o}"))


def _settings(given: dict[str, Any]) -> Any:
    import msgspec

    from tailrace.gateway.settings import Settings

    default = Settings()
    replace = msgspec.structs.replace
    named = {"run_bytes": "run_bytes", "log_bytes": "log_bytes", "keep": "keep", "max_runs": "runs"}
    bounds = {field: given[name] for name, field in named.items() if given[name] is not None}
    limited = {"max_messages": "messages", "max_context": "context", "max_tokens": "tokens"}
    limited = {name: field for name, field in limited.items() if given[name] is not None}
    # 0 is no limit, and no ping.
    stream_settings = {name: given[name] or math.inf for name in ("send_timeout", "ping") if given[name] is not None}
    times = {name: given[name] for name in ("head_time", "body_time") if given[name] is not None}
    on_leave = given["on_leave"] if given["on_leave"] is not None else given["linger"]
    return Settings(
        upstreams=given["upstreams"],
        aliases=dict(given["aliases"]),
        model_options=_by_model(given["model_options"]),
        max_running=given["max_running"],
        max_queued=default.max_queued if given["max_queued"] is None else given["max_queued"],
        max_per_key=given["max_per_key"],
        limits=replace(default.limits, **{field: given[name] or None for name, field in limited.items()}),
        keys=_keys(given),
        hosts=given["hosts"],
        origins=given["origins"],
        admins=given["admins"] or None,
        local_files=given["local_files"],
        proxies=given["proxies"],
        telemetry={"metadata": False, "contents": True}.get(given["telemetry"]),
        timeout=given["timeout"],
        model=given["model"] or os.environ.get("TAILRACE_MODEL", "").strip(),
        host=given["host"],
        port=given["port"],
        on_leave=default.on_leave if on_leave is None else on_leave,
        drain=given["drain"],
        max_body=given["max_body"] or default.max_body,
        bounds=replace(default.bounds, **bounds),
        stream_settings=replace(default.stream_settings, **stream_settings),
        database=_database(given["database"], given["data"]),
        page=not given["no_page"],
        **times,
    )


def _by_model(given: tuple[tuple[str, str, Any], ...]) -> dict[str, dict[str, Any]]:
    models = dict.fromkeys(model for model, _, _ in given)
    return {
        each: gather(tuple((name, value) for model, name, value in given if model == each)) or {} for each in models
    }


def _database(database: str | None, folder: str | None) -> str | Path | None:
    from tailrace.gateway.conversations.values import FILE

    if database is not None:
        return database if "://" in database else Path(database)
    return Path(folder) / FILE if folder is not None else None


def _keys(given: dict[str, Any]) -> Any:
    from tailrace.gateway.access.keys import Keys

    keys = [*given["api_keys"], *filter(None, os.environ.get("TAILRACE_SERVE_KEYS", "").split())]
    return Keys.read(Path(given["api_key_file"]), keys) if given["api_key_file"] else Keys(keys)
