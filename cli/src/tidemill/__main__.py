"""Entry point of the `tidemill` command."""

from __future__ import annotations

import sys

from rich.markup import escape

from tidemill.app import app
from tidemill.errors import CliError, Exit
from tidemill.output import err
from tidemill_common.errors import AccessDeniedError, NotFoundError, TidemillError, TransientError


def main() -> None:
    """Run one command; errors become one line and an exit code."""
    try:
        app()
    except CliError as error:
        err.print(f"[red]error:[/] {escape(str(error))}")
        sys.exit(error.code)
    except TidemillError as error:
        err.print(f"[red]error:[/] {escape(str(error))}")
        sys.exit(_code(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _code(error: TidemillError) -> Exit:
    match error:
        case NotFoundError():
            return Exit.NOT_FOUND
        case TransientError() | AccessDeniedError():
            return Exit.CONNECTION
    return Exit.FAILED


if __name__ == "__main__":
    main()
