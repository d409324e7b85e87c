"""How every command of ``cxrguard`` fails and what its help ends with."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from cxrguard.errors import CxrguardError

EXIT_FAILED, EXIT_REFUSED = 1, 3
EXIT_STATUSES = "Exit status: 0 done, 1 failed, 2 wrong use, 3 refused (gate only), 143 told to stop (SIGTERM)."


class FriendlyGroup(TyperGroup):
    """Turns every command's CxrguardError into its message on stderr and exit status 1, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that ``ctx`` names."""
        try:
            return super().invoke(ctx)
        except CxrguardError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(EXIT_FAILED) from error

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, its help ending with the exit statuses."""
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            command.epilog = EXIT_STATUSES
        return command
