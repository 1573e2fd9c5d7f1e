"""A preload of Dask: an app's scheduler and worker end with it, also where it was killed.

Without it they would keep a model in memory until they have been idle for long enough.
"""

import os
import threading
import time
from typing import Any

# The process id of the app. It may have ended before a process that it started gets here.
APP_VARIABLE = "WHISPERQ_APP_PROCESS"
_CHECK_S = 2.0


def dask_setup(server: Any) -> None:
    """Called by Dask in each process that the app started: the scheduler, and a worker's nanny."""
    threading.Thread(target=_end_with, args=(int(os.environ[APP_VARIABLE]),), daemon=True).start()


def _end_with(app: int) -> None:
    # Who loses its parent gets another one.
    while os.getppid() == app:
        time.sleep(_CHECK_S)
    # The worker process ends when this one does: Dask watches that.
    os._exit(1)
