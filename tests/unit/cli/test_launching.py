"""Where user code runs is chosen once, and holds at later starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.errors import CliError
from tidemill.platform.launching import Launcher, Launching, Pull, check_docker, choose, kept, remove_containers
from tidemill.platform.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "platform")
    layout.make()
    return layout


def test_scripts_run_as_processes_unless_something_else_was_chosen(layout: Layout) -> None:
    assert kept(layout, {}) == Launching(launcher=Launcher.PROCESS, pull=Pull.MISSING)


def test_what_was_chosen_holds_at_later_starts(layout: Layout) -> None:
    choose(layout, Launcher.DOCKER, Pull.ALWAYS)
    choose(layout, None, None)
    choose(layout, None, Pull.NEVER)

    assert kept(layout, {}).environment() == {
        "TIDEMILL_SCHEDULER_LAUNCHER": "docker",
        "TIDEMILL_SCHEDULER_DOCKER__PULL": "never",
    }


def test_the_schedulers_own_variable_stands_above_it(layout: Layout) -> None:
    choose(layout, Launcher.DOCKER, None)

    assert kept(layout, {"TIDEMILL_SCHEDULER_LAUNCHER": "process"}).launcher is Launcher.PROCESS
    assert kept(layout, {"TIDEMILL_SCHEDULER_LAUNCHER": "kubernetes"}).launcher is Launcher.DOCKER


async def test_without_docker_there_is_advice(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"(?s)nowhere\.sock.*apt install docker\.io.*--launcher process"):
        await check_docker({"DOCKER_HOST": f"unix://{tmp_path}/nowhere.sock"})


async def test_a_docker_that_is_away_does_not_keep_a_platform_from_stopping(layout: Layout, tmp_path: Path) -> None:
    assert await remove_containers(layout, {}) == 0
    (layout.state / "scheduler").mkdir()
    (layout.state / "scheduler" / "docker-installation").write_text("0011")

    assert await remove_containers(layout, {"DOCKER_HOST": f"unix://{tmp_path}/nowhere.sock"}) == 0
