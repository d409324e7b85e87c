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
      cxrguard sanitize reports.csv sanitized.csv --text-column impression
      cxrguard report outputs/demo
      cxrguard gate outputs/demo/0/audit.json
    """  # noqa: D301 (typer needs the backspace itself to keep the lines)


@app.command()
def sanitize(
    source: Annotated[str, typer.Argument(metavar="IN", help="The table of prompts.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="Where it goes; replaced if there.")],
    convention: Annotated[
        list[str], typer.Option(help="How markers look: a name, 'auto' (all but surrogates), or a YAML file of your own. Repeatable.")
    ] = ["auto"],  # noqa: B006 (typer copies it)
    action: Annotated[str, typer.Option(help="repair, strip, drop_sentence, fill, randomize, surrogate or off.")] = "repair",
    text_column: Annotated[str, typer.Option(help="The column of the prompts.")] = "text",
    edits: Annotated[str, typer.Option(metavar="FILE", help="One line an edit (.jsonl, .csv): row, rule, action, offsets; no text.")] = "",
    summary: Annotated[str, typer.Option(metavar="FILE", help="Write the counts as JSON, too.")] = "",
    cues: Annotated[str, typer.Option(help="Boilerplate cues: off, canonicalize, or a file of cue tokens.")] = "off",
    priors: Annotated[str, typer.Option(help="References to earlier studies: keep or drop.")] = "keep",
    on_refused: Annotated[str, typer.Option(help="A prompt that cannot be repaired safely: drop (left empty) or raise (fail).")] = "drop",
    seed: Annotated[int, typer.Option(help="Of randomize and surrogate.")] = 0,
    complete: Annotated[bool, typer.Option(help="Whether a repair may write a neutral word in a marker's place.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace columns named sanitized, n_edits, status.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar and no summary on stderr.")] = False,
) -> None:
    """Take de-identification markers out of the prompts in IN without changing a clinical fact.

    Files are .csv, .jsonl, .parquet or .txt (a prompt a line), chosen by ending; .gz may follow; - is standard input or
    output (JSON lines). Rows and columns stay in order. Added: sanitized, n_edits, status (unchanged, edited, emptied, refused);
    emptied and refused prompts are empty. OUT appears whole or not at all, readable by you only.

    \b
    Examples:
      cxrguard sanitize reports.csv sanitized.csv --text-column impression --edits edits.jsonl
      cxrguard sanitize reports.parquet out.parquet --convention mimic_cxr --workers 4
      cxrguard sanitize prompts.txt out.csv --convention open_i --action drop_sentence
      zcat reports.jsonl.gz | cxrguard sanitize - - --quiet > out.jsonl
    """  # noqa: D301 (typer needs the backspace itself to keep the lines)
    from cxrguard.sanitizer.sanitize_file import SanitizeRequest, SanitizerSettings, sanitize_file, summary_lines

    try:
        settings = SanitizerSettings(tuple(convention), action, cues, priors, on_refused, complete, seed)
        request = SanitizeRequest(
            source, target, settings, text_column, edits, summary, overwrite=overwrite, workers=workers, progress=not quiet
        )
    except CxrguardError as error:
        raise typer.BadParameter(str(error)) from None
    counts = sanitize_file(request)
    for line in () if quiet else summary_lines(counts):
        typer.echo(line, err=True)


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
