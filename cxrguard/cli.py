"""The ``cxrguard`` command. Exit status: 0 done, 1 failed, 2 wrong use, 3 the gate refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cxrguard.errors import CxrguardError

EXIT_FAILED, EXIT_REFUSED = 1, 3


class FriendlyGroup(TyperGroup):
    """Turns every command's CxrguardError into its message on stderr and exit status 1, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that ``ctx`` names."""
        try:
            return super().invoke(ctx)
        except CxrguardError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(EXIT_FAILED) from error


# Typer's own pretty tracebacks print local variables, which may hold report text: off.
app = typer.Typer(
    name="cxrguard", cls=FriendlyGroup, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None
)


@app.callback()
def about() -> None:
    """Watch a chest X-ray diffusion model for memorization, and judge whether it may be released.

    \b
    Examples:
      cxrguard report outputs/demo
      cxrguard gate outputs/demo/0/audit.json
    """  # noqa: D301 (typer needs the backspace itself to keep the lines)


@app.command(no_args_is_help=False)
def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A run's directory, or a sweep's.")],
) -> None:
    """Write report.html from what a run or a sweep left in DIR.

    A sweep also gets study.json, and a page that compares its arms, failed ones included.

    \b
    Examples:
      cxrguard report outputs/demo/0
      cxrguard report multirun/2025-01-31/12-00-00
    """  # noqa: D301 (typer needs the backspace itself to keep the lines)
    # Imported here: matplotlib takes a second that `--help` and `gate` need not pay.
    from cxrguard.audit.report import write_report
    from cxrguard.audit.study import write_study

    single = (directory / "audit.json").is_file()
    typer.echo(str(write_report(directory) if single else write_study(directory)))


@app.command()
def gate(
    audit: Annotated[Path, typer.Argument(metavar="AUDIT_JSON", exists=True, dir_okay=False, help="The audit.json of a run.")],
) -> None:
    """Say whether the audited model may be released: exit status 0 if so, 3 if not.

    \b
    Examples:
      cxrguard gate outputs/demo/0/audit.json
      cxrguard gate audit.json && cp -r pipeline /srv/models/
    """  # noqa: D301 (typer needs the backspace itself to keep the lines)
    from cxrguard.audit.gate import gate as judge

    passed, reasons = judge(audit)
    typer.echo("PASS" if passed else "REFUSED")
    for reason in reasons:
        typer.echo(f"- {reason}")
    if not passed:
        raise typer.Exit(EXIT_REFUSED)


if __name__ == "__main__":
    app()
