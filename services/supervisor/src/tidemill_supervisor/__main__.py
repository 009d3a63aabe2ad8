"""Entry point of a Worker: `python -m tidemill_supervisor`.

nats-py loads aiohttp (for web sockets) and its own JetStream layer, structlog loads rich (for coloured tracebacks),
pydantic looks through all packages for plugins. A Worker needs none of it, and there are many Workers: without them one
starts in half the time with 12 MB less. What is loaded stays, so the collector need not look at it, now or later.
"""

from __future__ import annotations

import gc
import os
import sys

gc.disable()
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "true")

from tidemill_supervisor.absence import absent, hollow  # noqa: E402 - what comes before makes these quick

with absent("aiohttp", "rich"), hollow("nats.js"):
    import tidemill_common.bus.nats  # noqa: F401 - loaded here, where aiohttp is absent
    from tidemill_supervisor.command import main

gc.freeze()
gc.enable()

if __name__ == "__main__":
    sys.exit(main())
