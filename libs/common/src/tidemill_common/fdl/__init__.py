"""FDL: how users write Services down, read tolerantly and shown as OSCAR shows them.

`parse_service` reads the JSON that clients post, `service_json` writes what they read, `load_fdl` turns an FDL file
into documents to post. What `service_json` writes parses to the same Service.
"""

from __future__ import annotations

from tidemill_common.fdl.file import FdlError, FdlService, load_fdl
from tidemill_common.fdl.parsing import ParsedService, parse_service
from tidemill_common.fdl.reading import FieldError
from tidemill_common.fdl.rendering import keep_secrets, service_json

__all__ = [
    "FdlError",
    "FdlService",
    "FieldError",
    "ParsedService",
    "keep_secrets",
    "load_fdl",
    "parse_service",
    "service_json",
]
