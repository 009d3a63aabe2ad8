"""The scenarios on the process launcher."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Platform
from tests.scenarios import SCENARIOS, Scenario, Target
from tidemill.platform.installation import Installation

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]  # more than the patience of a scenario


@pytest.fixture(scope="module")
def target(platform: Platform) -> Target:
    """The platform as a scenario sees it."""
    connection = Installation.existing(platform.directory).connection
    return Target(
        endpoint=connection.endpoint,
        username=connection.username,
        password=connection.password,
        s3_endpoint=str(connection.s3_endpoint),
        s3_access_key=connection.s3_access_key,
        s3_secret_key=connection.s3_secret_key,
        isolates=False,
    )


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_scenario(target: Target, scenario: Scenario) -> None:
    scenario(target, "process")
