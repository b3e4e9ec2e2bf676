"""The control plane: Locust master and agents, shares, leases, snapshots.

Locust patches the standard library when it is imported, unless told not to. Here it is
told not to: this room waits in gevent explicitly, and a process that imports it (the
command line, a test) keeps its threads, sockets and subprocesses. In a process that the
`locust` command started, the library is patched already, and that does no harm.
"""

import os

os.environ.setdefault("LOCUST_SKIP_MONKEY_PATCH", "1")
