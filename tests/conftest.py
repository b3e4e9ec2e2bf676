"""What all tests share: how property tests search, and that Locust patches nothing.

The suite tries the same cases every time, so that a failure is of the change and not of the
day; `HYPOTHESIS_PROFILE=search` looks for new ones. No deadlines: a busy machine is no bug.

Programs that tests start must hear SIGINT and SIGHUP, which whoever runs the suite may have had
ignored for all below it (`&` in a script, `nohup`): a handler here is the default after an exec.

What programs remember of this host (calibration, undo ledger) is a folder of the session's own.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
import threading

from hypothesis import HealthCheck, settings

import loadtests.swarm  # noqa: F401 - before Locust, which it keeps from patching this process

_STATE = tempfile.mkdtemp(prefix="headroom-test-state-")
atexit.register(shutil.rmtree, _STATE, ignore_errors=True)
os.environ["XDG_STATE_HOME"] = _STATE

_SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("suite", _SHARED, derandomize=True)
settings.register_profile("search", _SHARED)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

if threading.current_thread() is threading.main_thread():
    for _number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(_number) is signal.SIG_IGN:
            signal.signal(_number, lambda *_: None)
