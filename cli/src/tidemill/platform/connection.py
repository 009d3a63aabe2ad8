"""How a client reaches a platform: the content of `connection.json`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Connection(BaseModel):
    """Addresses and credentials of one platform."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    endpoint: str
    username: str = ""
    password: str = Field(default="", repr=False)
    verify: bool = True
    """Whether the certificate of an https endpoint must be good."""
    s3_endpoint: str | None = None
    """None: ask the gateway (`/system/config`) for the store and its keys."""
    s3_access_key: str = ""
    s3_secret_key: str = Field(default="", repr=False)
    events_endpoint: str | None = None
    """Where stores and others send notifications; None: unknown."""
    events_token: str | None = Field(default=None, repr=False)
