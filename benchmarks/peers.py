"""The programs that Headroom is compared with: present, and which version.

They are Debian's packages. Missing ones are installed with apt-get, and that is said; on
other systems the message names what to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from loadtests.errors import HarnessError

GO_LIBRARIES = Path("/usr/share/gocode")  # where Debian's golang packages put their sources
# Package: what must be there, a program on the path or a folder.
REST: Mapping[str, str] = {"nginx": "nginx", "wrk": "wrk", "hey": "hey"}
GRPC: Mapping[str, str] = {"nghttp2-server": "nghttpd", "nghttp2-client": "h2load"}
GO: Mapping[str, str] = {
    "golang-go": "go",
    "golang-google-grpc-dev": str(GO_LIBRARIES / "src/google.golang.org/grpc"),
}
_LIBRARIES = ("locust", "uvloop", "httptools", "hpack", "numpy", "pyzmq", "gevent", "grpcio")


def find_missing(packages: Mapping[str, str]) -> list[str]:
    """Names of the packages that are not installed."""
    return [
        package
        for package, what in packages.items()
        if shutil.which(what) is None and not Path(what).is_dir()
    ]


def install_missing(packages: Mapping[str, str]) -> None:
    """Install what is missing with apt-get and say so; HarnessError when that cannot be."""
    missing = find_missing(packages)
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
    try:
        subprocess.run(["apt-get", "update", "--quiet"], check=True, env=quiet)
        subprocess.run(command, check=True, env=quiet)
    except subprocess.CalledProcessError as error:
        raise HarnessError(where="apt-get", seen=str(error), expected="installed") from None
    if still := find_missing(packages):
        raise HarnessError(
            where="apt-get", seen=f"still missing {', '.join(still)}", expected="installed"
        )


def versions() -> dict[str, str]:
    """Version of each peer and of the libraries that matter, by name."""
    found = {name: _debian_version(name) for name in (*REST, *GRPC, *GO)}
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
    return answer.stdout.strip() or "not a Debian package"
