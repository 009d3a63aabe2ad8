"""The committed OpenAPI document is the one that the routes make."""

from __future__ import annotations

from pathlib import Path

from tidemill_gateway.openapi import document, render


async def test_the_openapi_document_is_current() -> None:
    committed = Path(__file__).parents[3] / "contracts" / "openapi.json"
    assert committed.read_text() == render(await document()), (
        "run: python -m tidemill_gateway.openapi > contracts/openapi.json"
    )


async def test_every_route_is_described_with_its_own_name() -> None:
    described = await document()
    operations = [
        operation["operationId"]
        for path in described["paths"].values()
        for operation in path.values()
        if "operationId" in operation
    ]
    assert len(operations) == len(set(operations))
    assert {"/job/{name}", "/run/{name}", "/v1/invocations", "/system/services"} <= set(described["paths"])
