"""nginx in front of a server, with default settings: buffering on, HTTP/1.0 to the server behind it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.programs import need
from tests.web.process import Running, running

_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")  # folders that it wants to write to


@contextlib.contextmanager
def nginx(upstream: str, more: str = "") -> Iterator[Running]:
    """Runs nginx.

    Args:
        upstream: the address of the server behind it.
        more: further directives for the location.
    """
    program = need("nginx")
    with tempfile.TemporaryDirectory() as folder:

        def command(port: int) -> list[str]:
            path = Path(folder) / "nginx.conf"
            path.write_text(_configuration(port, upstream, folder, more), encoding="ascii")
            return [program, "-p", folder, "-c", str(path), "-e", "stderr", "-g", "daemon off;"]

        with running(command) as server:
            yield server


def _configuration(port: int, upstream: str, folder: str, more: str) -> str:
    user = "user root;" if os.geteuid() == 0 else ""  # its workers would change to one who cannot read the folder
    temporary = "\n".join(f"  {name}_temp_path {folder}/{name};" for name in _TEMPORARY)
    return f"""
{user}
pid {folder}/nginx.pid;
events {{}}
http {{
  access_log off;
{temporary}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass {upstream};
      {more}
    }}
  }}
}}
"""
