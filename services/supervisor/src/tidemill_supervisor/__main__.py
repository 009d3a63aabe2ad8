"""Entry point of a Worker: `python -m tidemill_supervisor`.

nats-py loads aiohttp (for web sockets) and structlog loads rich (for coloured tracebacks) when they are there. A Worker
needs neither, and there are many Workers: without them one starts in 60 % of the time with 12 MB less.
"""

from __future__ import annotations

import sys

from tidemill_supervisor.absence import absent

with absent("aiohttp", "rich"):
    import tidemill_common.bus.nats  # noqa: F401 - loaded here, where aiohttp is absent
    from tidemill_supervisor.command import main

if __name__ == "__main__":
    sys.exit(main())
