"""The command file of one run: a piece of `sh` that sets up the environment and says what to run.

Every byte of a value arrives as it is. What a shell treats in a way of its own (`IFS`, `UID`), or could not hold at all
(`a.b`), goes through the image's `env`; without one the former are set by the shell and the latter left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Final

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHELL_OWN: Final = re.compile(
    r"_|_tidemill.*|BASH.*|COMP_.*|DIRSTACK|ENV|EPOCH.*|EUID|FUNCNAME|GROUPS|HISTCMD|IFS|LANG|LC_.*|LINENO|MAIL.*"
    r"|OLDPWD|OPT(ARG|ERR|IND)|PIPESTATUS|POSIXLY_CORRECT|PPID|PS[0-9]|PWD|RANDOM|SECONDS|SHELLOPTS|SHLVL|SRANDOM|UID"
)
_READ_ONLY: Final = frozenset({"BASHOPTS", "BASH_VERSINFO", "EUID", "PPID", "SHELLOPTS", "UID"})
_BLOCK_BYTES: Final = 512
_KIBIBYTE: Final = 1024


def script_file(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    defaults: Mapping[str, str],
    directory: str,
    file_limit_bytes: int | None = None,
    memory_limit_bytes: int | None = None,
) -> bytes:
    """The command file.

    Args:
        environment: Set beside what the image sets; wins over it.
        defaults: Set only where the image sets nothing. Plain names.
        file_limit_bytes: No file may grow beyond; None: no limit.
        memory_limit_bytes: Address space of each process; None: no limit.
    """
    plain = {name: value for name, value in environment.items() if _is_plain(name)}
    special = {name: value for name, value in environment.items() if not _is_plain(name)}
    lines = [
        f"cd {_quoted(directory)} || _tidemill_refuse {_quoted(directory)}: cannot be entered",
        *(f"export {name}={_quoted(value)}" for name, value in plain.items()),
        *(_default(name, value) for name, value in defaults.items() if name not in environment),
        *_limits(file_limit_bytes, memory_limit_bytes),
        f"set -- {_words(arguments)}",
        '_tidemill_need "$1"; shift; set -- "$_tidemill_program" "$@"',
        *_env_program(arguments),
        *_specially(special),
    ]
    return os.fsencode("\n".join(lines) + "\n")


def _is_plain(name: str) -> bool:
    return _IDENTIFIER.fullmatch(name) is not None and _SHELL_OWN.fullmatch(name) is None


def _default(name: str, value: str) -> str:
    return f'[ -n "${{{name}+set}}" ] || {name}={_quoted(value)}; export {name}'


def _limits(file_bytes: int | None, memory_bytes: int | None) -> list[str]:
    found = []
    if file_bytes is not None:
        found.append(f"ulimit -f {max(file_bytes // _BLOCK_BYTES, 1)}")
    if memory_bytes is not None:
        found.append(f"ulimit -v {max(memory_bytes // _KIBIBYTE, 1)}")
    return found


def _env_program(arguments: Sequence[str]) -> list[str]:
    """`env` finds its program after it was started; a missing one would look like the script's own exit code 127."""
    program = arguments[1].split()[0] if len(arguments) > 2 and arguments[1].split() else ""
    if arguments[0].rpartition("/")[2] != "env" or not program or program.startswith("-") or "=" in program:
        return []
    return [f"_tidemill_need {_quoted(program)}"]


def _specially(variables: Mapping[str, str]) -> list[str]:
    """Set variables whose names a shell cannot export, or gives a meaning."""
    if not variables:
        return []
    words = _words([f"{name}={value}" for name, value in variables.items()])
    exports = [f"export {name}={_quoted(value)}" for name, value in variables.items() if _is_settable(name)]
    return [
        "if command -v env >/dev/null 2>&1; then",
        f'  set -- env -- {words} "$@"',  # a name may look like an option
        "else",
        *(f"  {line}" for line in exports or [":"]),
        "fi",
    ]


def _is_settable(name: str) -> bool:
    return _IDENTIFIER.fullmatch(name) is not None and name not in _READ_ONLY


def _words(words: Sequence[str]) -> str:
    return " ".join(_quoted(word) for word in words)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
