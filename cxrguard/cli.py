"""The ``cxrguard`` command. Exit status: 0 done, 1 failed, 2 wrong use, 3 the gate refuses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from cxrguard.command_group import EXIT_REFUSED, EXIT_STATUSES, FriendlyGroup
from cxrguard.command_options import Base, BatchSize, Column, Devices, Model, Prompts, Quiet, Resume, Seeds
from cxrguard.errors import CxrguardError
from cxrguard.mitigating.command import mitigate
from cxrguard.tables.spreadsheet import escaped_formulas

# Typer's own pretty tracebacks print local variables, which may hold report text: off.
app = typer.Typer(
    name="cxrguard", cls=FriendlyGroup, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None,
    epilog=EXIT_STATUSES,
)  # fmt: skip


@app.callback()
def about(
    context: typer.Context,
    escape_formulas: Annotated[
        bool, typer.Option("--escape-formulas", help="Write .csv for a spreadsheet: an apostrophe before cells it may run.")
    ] = False,
) -> None:
    """Watch a chest X-ray diffusion model for memorization, and judge whether it may be released.

    \b
    Examples:
      cxrguard sanitize reports.csv sanitized.csv --text-column impression
      cxrguard score --model outputs/demo/0/pipeline --prompts reports.csv --out scores.csv
      cxrguard report outputs/demo
      cxrguard gate outputs/demo/0/audit.json
      cxrguard --escape-formulas sanitize reports.csv for_excel.csv
    """  # noqa: D301 (typer needs the backspace itself to keep the lines)
    context.with_resource(escaped_formulas(escape_formulas))


@contextmanager
def _wrong_use() -> Iterator[None]:
    """What a request refuses is wrong use of the command: exit status 2."""
    try:
        yield
    except CxrguardError as error:
        raise typer.BadParameter(str(error)) from None


def _tell(lines: Iterable[str], quiet: bool) -> None:
    for line in () if quiet else lines:
        typer.echo(line, err=True)


@app.command()
def sanitize(
    source: Annotated[str, typer.Argument(metavar="IN", help="The table of prompts.")],
    target: Annotated[str, typer.Argument(metavar="OUT", help="Where it goes; replaced if there.")],
    convention: Annotated[
        list[str], typer.Option(help="How markers look: a name, 'auto' (all but surrogates), or a YAML file of your own. Repeatable.")
    ] = ["auto"],  # noqa: B006 (typer copies it)
    action: Annotated[str, typer.Option(help="repair, strip, drop_sentence, fill, randomize, surrogate or off.")] = "repair",
    text_column: Column = "text",
    edits: Annotated[str, typer.Option(metavar="FILE", help="One line an edit (.jsonl, .csv): row, rule, action, offsets; no text.")] = "",
    summary: Annotated[str, typer.Option(metavar="FILE", help="Write the counts as JSON, too.")] = "",
    cues: Annotated[str, typer.Option(help="Boilerplate cues: off, canonicalize, or a file of cue tokens.")] = "off",
    priors: Annotated[str, typer.Option(help="References to earlier studies: keep or drop.")] = "keep",
    on_refused: Annotated[str, typer.Option(help="A prompt that cannot be repaired safely: drop (left empty) or raise (fail).")] = "drop",
    seed: Annotated[int, typer.Option(help="Of randomize and surrogate.")] = 0,
    complete: Annotated[bool, typer.Option(help="Whether a repair may write a neutral word in a marker's place.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace columns named sanitized, n_edits, status.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    quiet: Quiet = False,
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

    with _wrong_use():
        settings = SanitizerSettings(tuple(convention), action, cues, priors, on_refused, complete, seed)
        request = SanitizeRequest(
            source, target, settings, text_column, edits, summary, overwrite=overwrite, workers=workers, progress=not quiet
        )
    counts = sanitize_file(request)
    _tell(summary_lines(counts), quiet)


@app.command()
def score(
    model: Model,
    prompts: Prompts,
    out: Annotated[str, typer.Option(metavar="FILE", help="Where it goes; replaced if there.")],
    prompt_column: Column = "prompt",
    detectors: Annotated[str, typer.Option(help="Names with commas between; the first one selects for the benchmark.")] = "text_noise_norm",
    steps: Annotated[int, typer.Option(min=1, max=50, help="The first so many of 50 DDIM steps, where text_noise_norm averages.")] = 1,
    seeds: Seeds = 4,
    base: Base = "",
    batch_size: BatchSize = 32,
    devices: Devices = 1,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    top: Annotated[str, typer.Option(help="Put the top, 1% or a number of prompts, into the benchmark.")] = "",
    zscore: Annotated[float | None, typer.Option(help="Put the prompts of at least this z-score into the benchmark.")] = None,
    benchmark: Annotated[str, typer.Option(metavar="FILE", help="Where it goes (else beside OUT, .benchmark.csv); a card beside it.")] = "",
    show_prompts: Annotated[bool, typer.Option("--show-prompts", help="Show the benchmark's prompts, not only keyed hashes.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace columns of the detectors' names.")] = False,
    resume: Resume = True,
    quiet: Quiet = False,
) -> None:
    """Score how far a model has memorized each of the prompts in a table.

    Files are .csv, .jsonl, .parquet or .txt (a prompt a line; not for --out), chosen by ending; .gz may follow; - is standard input or
    output (JSON lines). Rows and columns stay in order, one column a detector is added: text_noise_norm (the mean over steps and
    noises of the norm of the text's effect on the predicted noise; with it text_noise_norm_rms, divided by the root of the number of
    latent values), text_noise_norm_mean, pure_noise_norm, noise_consistency, seed_convergence, score_dynamics, cross_attention_entropy,
    cross_attention_entropy_late, bright_ending, sharpness, anisotropy; with --base also
    text_noise_norm_relative, pure_noise_norm_relative, base_noise_gap. A prompt that occurs twice is scored once. OUT appears whole
    or not at all, readable by you only. After an interruption the same command goes on; until then its work is in OUT.partial.

    \b
    Examples:
      cxrguard score --model outputs/run/pipeline --prompts reports.csv --out scores.csv --prompt-column impression
      cxrguard score --model DIR --prompts prompts.txt --out scores.parquet --detectors text_noise_norm,noise_consistency
      cxrguard score --model DIR --prompts prompts.jsonl --out scores.jsonl --top 1% --zscore 3
      cxrguard score --model DIR --prompts prompts.csv --out scores.csv --base BASE_DIR --detectors base_noise_gap --devices 2
    """  # noqa: D301 (typer needs the backspace itself to keep the lines)
    from cxrguard.scoring.detectors import Draws
    from cxrguard.scoring.request import ScoreRequest
    from cxrguard.scoring.score_file import score_file, summary_lines

    names = tuple(name.strip() for name in detectors.split(",") if name.strip())
    with _wrong_use():
        request = ScoreRequest(
            model, prompts, out, prompt_column, names, Draws(steps, seeds), base, batch_size, devices, seed, top, zscore, benchmark,
            show_prompts=show_prompts, overwrite=overwrite, resume=resume, progress=not quiet,
        )  # fmt: skip
    scored = score_file(request, lambda line: _tell([line], quiet))
    _tell(summary_lines(request, scored), quiet)


@app.command()
def attribute(
    model: Model,
    prompts: Prompts,
    out: Annotated[str, typer.Option(metavar="FILE", help="Where the tokens and words go; replaced if there.")],
    prompt_column: Column = "prompt",
    steps: Annotated[int, typer.Option(min=1, max=50, help="The first so many of 50 DDIM steps.")] = 1,
    seeds: Seeds = 4,
    batch_size: BatchSize = 32,
    devices: Devices = 1,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    ablation: Annotated[bool, typer.Option(help="Leave each word out in turn, too; one more scoring a word.")] = True,
    show_words: Annotated[bool, typer.Option("--show-words", help="Write tokens and words, not keyed hashes.")] = False,
    words: Annotated[str, typer.Option(metavar="FILE", help="Write the words of all prompts, ranked, with counts and intervals.")] = "",
    summary: Annotated[str, typer.Option(metavar="FILE", help="Write as JSON how gradient and ablation agree, and the sections.")] = "",
    cues: Annotated[str, typer.Option(metavar="FILE", help="Write the top words for sanitize --cues (.txt, .csv, .jsonl, .json).")] = "",
    top_words: Annotated[int, typer.Option(min=1, help="Words in it at most.")] = 20,
    min_prompts: Annotated[int, typer.Option(min=1, help="Different prompts that a word there has, at least.")] = 20,
    resume: Resume = True,
    quiet: Quiet = False,
) -> None:
    """Say which tokens and words of each prompt make its text_noise_norm.

    OUT has a row a token and a row a word: row (of the table), level, index, start and end (characters of the prompt), a keyed hash,
    gradient (the norm of the score's gradient with respect to the token; of a word the mean), gradient_times_input (signed; of a word
    the sum) and, for words, ablation (what the score loses without the word). --words ranks the words of all prompts by their mean
    attribution, with 95 % intervals, markers flagged, and says where gradient and ablation disagree. Files are as for score. OUT appears
    whole or not at all, readable by you only; after an interruption the same command goes on. The cue file has only words that the
    sanitizer may touch.

    \b
    Examples:
      cxrguard attribute --model outputs/run/pipeline --prompts reports.csv --out words.parquet --prompt-column impression
      cxrguard attribute --model DIR --prompts prompts.txt --out words.csv --no-ablation --show-words
      cxrguard attribute --model DIR --prompts prompts.csv --out words.csv --words ranked.csv --summary agreement.json
      cxrguard attribute --model DIR --prompts prompts.csv --out words.csv --cues cues.csv
      cxrguard sanitize prompts.csv sanitized.csv --text-column prompt --cues cues.csv
    """  # noqa: D301 (typer needs the backspace itself to keep the lines)
    from cxrguard.scoring.attribute_file import AttributeRequest, attribute_file, summary_lines
    from cxrguard.scoring.detectors import Draws

    with _wrong_use():
        request = AttributeRequest(
            model, prompts, out, prompt_column, Draws(steps, seeds), batch_size, devices, seed, ablation, show_words, words, summary, cues,
            top_words, min_prompts, resume, progress=not quiet,
        )  # fmt: skip
    told = attribute_file(request, lambda line: _tell([line], quiet))
    _tell(summary_lines(request, told), quiet)


@app.command()
def sensitivity(
    model: Model,
    prompts: Prompts,
    out: Annotated[str, typer.Option(metavar="FILE", help="Where the edits' scores go; replaced if there.")],
    prompt_column: Column = "prompt",
    detector: Annotated[str, typer.Option(help="A detector of score.")] = "text_noise_norm",
    base: Base = "",
    steps: Annotated[int, typer.Option(min=1, max=50, help="The first so many of 50 DDIM steps.")] = 1,
    seeds: Seeds = 4,
    batch_size: BatchSize = 32,
    seed: Annotated[int, typer.Option(help="Of the noise and of the edits.")] = 0,
    adversarial: Annotated[int, typer.Option(metavar="N", min=0, help="Search for the worst words, N scorings a prompt and way.")] = 0,
    show_prompts: Annotated[bool, typer.Option("--show-prompts", help="Write the edited prompts, too.")] = False,
    summary: Annotated[str, typer.Option(metavar="FILE", help="Write the summary there as JSON, not to stderr.")] = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar and nothing on stderr.")] = False,
) -> None:
    """Say how each prompt's score moves with small edits: is it the marker, or any edit of this length?

    OUT has rows for the original and each edit that can be made: the markers removed, replaced (random_word, random_number), moved, the
    rest paraphrased, sanitized, placebo (ordinary words of as many tokens as sanitizing took away left out, markers kept), and
    adversarial_raise and adversarial_lower: row (of the table), kind, score, difference (to the original), words_changed. All wordings
    of a prompt get the same noise. The summary has each edit's mean difference, and the causal marker test over prompts that have all
    of original, sanitized and placebo, with 95 % intervals. Files are as for score. OUT appears whole or not at all, readable by you only.

    \b
    Examples:
      cxrguard sensitivity --model outputs/run/pipeline --prompts reports.csv --out edits.csv --prompt-column impression
      cxrguard sensitivity --model DIR --prompts prompts.txt --out edits.parquet --summary test.json --adversarial 256
    """  # noqa: D301 (typer needs the backspace itself to keep the lines)
    from cxrguard.scoring.detectors import Draws
    from cxrguard.scoring.sensitivity_file import SensitivityRequest, sensitivity_file, summary_lines, to_json

    with _wrong_use():
        request = SensitivityRequest(
            model, prompts, out, prompt_column, detector, Draws(steps, seeds), base, batch_size, seed, adversarial, show_prompts, summary,
            progress=not quiet,
        )  # fmt: skip
    found = sensitivity_file(request)
    _tell(summary_lines(found) if summary else [to_json(found).rstrip()], quiet)


app.command()(mitigate)


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
