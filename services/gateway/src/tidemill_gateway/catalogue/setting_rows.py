"""What an operator set while running: the repositories that images may come from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from tidemill_gateway.catalogue.tables import settings
from tidemill_gateway.sql.engine import reading

_ALLOWED: Final = "allowed_image_repositories"


class SettingRows:
    """Reads and writes the table `catalogue_settings`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def allowed_repositories(self) -> tuple[str, ...]:
        """Parts that an image's name must have one of; empty: every image is allowed."""
        async with reading(self._engine) as connection:
            text = (
                await connection.execute(select(settings.c.value).where(settings.c.name == _ALLOWED))
            ).scalar_one_or_none()
        return () if text is None else tuple(json.loads(text))

    async def allow_repositories(self, repositories: Sequence[str]) -> None:
        """Replace the list."""
        async with self._engine.begin() as connection:
            await connection.execute(delete(settings).where(settings.c.name == _ALLOWED))
            await connection.execute(insert(settings).values(name=_ALLOWED, value=json.dumps(list(repositories))))
