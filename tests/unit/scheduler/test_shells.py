"""Images without a shell: what runtimes say of them, and the shell that is brought along."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tidemill_common.errors import InvalidInputError
from tidemill_scheduler.launchers.docker.static_shell import StaticShell, why_not_static
from tidemill_scheduler.launchers.shells import ShelllessImages, lacks_shell

SAMPLES = Path(__file__).parent / "samples"
_RUNC = "OCI runtime create failed: runc create failed: unable to start container process: "


def told(name: str) -> str:
    pod = json.loads((SAMPLES / "kubernetes" / f"{name}.json").read_text())["pod"]
    statuses = {status["name"]: status for status in pod["status"]["containerStatuses"]}
    return str(statuses["user"]["state"]["terminated"]["message"])


@pytest.mark.parametrize(
    "said",
    [
        told("start-error"),
        (SAMPLES / "docker-no-shell.txt").read_text(),
        _RUNC + 'error during container init: exec: "/bin/sh": stat /bin/sh: no such file or directory',
        "container create failed: executable file `/bin/sh` not found: No such file or directory",
    ],
)
def test_runtimes_say_that_an_image_has_no_shell(said: str) -> None:
    assert lacks_shell(said)


@pytest.mark.parametrize(
    "said",
    [
        "",
        _RUNC + 'exec: "/bin/sh": permission denied: unknown',
        _RUNC + 'exec: "/bin/shell": stat /bin/shell: no such file or directory: unknown',
        _RUNC + 'error mounting "/state/w" to rootfs at "/state/w": stat /state/w: no such file or directory',
        "exec /bin/sh: exec format error",
    ],
)
def test_other_troubles_are_none_of_a_missing_shell(said: str) -> None:
    assert not lacks_shell(said)


def test_only_images_of_services_are_remembered() -> None:
    images = ShelllessImages()
    images.add("a:1")
    images.add("b:1")
    images.keep({"b:1", "c:1"})
    assert ("a:1" in images, "b:1" in images, "c:1" in images) == (False, True, False)


def test_a_program_with_a_loader_is_not_static(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    assert (
        why_not_static(Path(sys.executable).resolve()) == f"{Path(sys.executable).resolve()} is not linked statically"
    )
    assert why_not_static(script) == f"{script} is no program for 64-bit Linux"
    assert why_not_static(tmp_path / "none") == f"{tmp_path / 'none'}: No such file or directory"


async def test_a_machine_without_a_static_busybox_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="busybox-static"):
        await StaticShell(tmp_path / "none", tmp_path).directory()
