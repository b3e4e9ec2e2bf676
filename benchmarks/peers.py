"""The programs that Headroom is compared with: present, and which version.

nginx, wrk and hey are Debian's packages. Missing ones are installed with apt-get, and
that is said; on other systems the message names what to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.metadata import version

from loadtests.errors import HarnessError

PACKAGES = ("nginx", "wrk", "hey")
_LIBRARIES = ("locust", "uvloop", "httptools", "numpy", "pyzmq", "gevent")


def find_missing() -> list[str]:
    """Names of the programs that are not on the path."""
    return [name for name in PACKAGES if shutil.which(name) is None]


def install_missing() -> None:
    """Install what is missing with apt-get and say so; HarnessError when that cannot be."""
    missing = find_missing()
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise HarnessError(
            where="benchmark peers",
            seen=f"missing {', '.join(missing)}",
            expected=f"installed programs, e.g. sudo {' '.join(command)}",
        )
    print(f"installing Debian packages: {', '.join(missing)}", flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # nginx's package starts a server on port 80 unless policy-rc.d or this variable forbids it.
    quiet["RUNLEVEL"] = "1"
    subprocess.run(["apt-get", "update", "--quiet"], check=True, env=quiet)
    subprocess.run(command, check=True, env=quiet)
    if still := find_missing():
        raise HarnessError(
            where="apt-get", seen=f"still missing {', '.join(still)}", expected="installed"
        )


def versions() -> dict[str, str]:
    """Version of each peer and of the libraries that matter, by name."""
    found = {name: _debian_version(name) for name in PACKAGES}
    found.update({name: version(name) for name in _LIBRARIES})
    found["headroom"] = version("headroom")
    return found


def _debian_version(package: str) -> str:
    if shutil.which("dpkg-query") is None:
        return "unknown (not Debian)"
    answer = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${Version}", package],
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip() or "unknown (not a Debian package)"
