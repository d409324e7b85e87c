"""``cxrguard mitigate``, which :mod:`cxrguard.cli` registers."""

from __future__ import annotations

from typing import Annotated

import typer

from cxrguard.errors import CxrguardError


def mitigate(
    model: Annotated[str, typer.Option(metavar="DIR", help="A diffusers pipeline directory.")],
    prompts: Annotated[str, typer.Option(metavar="FILE", help="The table of prompts.")],
    out: Annotated[str, typer.Option(metavar="FILE", help="Where the rows go; replaced if there.")],
    prompt_column: Annotated[str, typer.Option(help="The column of the prompts.")] = "prompt",
    image_column: Annotated[str, typer.Option(help="The column of each prompt's training image: a path, also relative to the table.")] = "",
    mitigations: Annotated[str, typer.Option(help="Comma-separated; all without it.")] = "",
    steps: Annotated[int, typer.Option(min=1, max=1000, help="DDIM steps of a sample.")] = 20,
    seeds: Annotated[int, typer.Option(min=1, help="Samples, so noises, a prompt.")] = 4,
    guidance_scale: Annotated[float, typer.Option(help="Of the samples; guidance schedules end at it.")] = 3.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples at once.")] = 32,
    seed: Annotated[int, typer.Option(help="Of the noise and of the mitigations.")] = 0,
    write_prompts: Annotated[bool, typer.Option("--write-prompts", help="Write the changed prompts, too: mitigated_prompt.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace columns of the added ones' names.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar and no summary on stderr.")] = False,
) -> None:
    """Generate under each inference-time mitigation, side by side with none: what it takes off the score, and what it costs.

    Mitigations: random_word, random_number, random_token, word_repeat, marker_removal, sanitizer, embedding_optimization,
    attention_rescaling, static_transition, dynamic_transition, opposite_guidance, initial_noise, initial_noise_per_sample, sail. OUT has
    each row of the table once a mitigation, none first, and these columns: mitigation; text_noise_norm (of the mitigated inputs at the
    first step, as score has it; a guidance schedule cannot change it); evaluations (UNet evaluations of all the prompt's samples, a
    conditional and an unconditional one count two); change (mean squared pixel distance from the samples of the same noise without a
    mitigation); with --image-column own_distance (that of the nearest sample from the image). A prompt that a mitigation withholds has
    none. The summary on stderr has their means. Files are as for score. OUT appears whole or not at all, readable by you only.

    \b
    Examples:
      cxrguard mitigate --model outputs/run/pipeline --prompts reports.csv --out mitigated.csv --prompt-column impression
      cxrguard mitigate --model DIR --prompts prompts.txt --out m.parquet --mitigations sanitizer,embedding_optimization
      cxrguard mitigate --model DIR --prompts pairs.csv --out m.csv --image-column image --steps 50 --guidance-scale 7.5
    """  # noqa: D301 (typer needs the backspace itself to keep the lines)
    from cxrguard.mitigating.mitigate_file import mitigate_file
    from cxrguard.mitigating.request import MitigateRequest

    names = tuple(name.strip() for name in mitigations.split(",") if name.strip())
    try:
        request = MitigateRequest(
            model, prompts, out, prompt_column, image_column, names, steps, seeds, guidance_scale, batch_size, seed,
            write_prompts=write_prompts, overwrite=overwrite, progress=not quiet,
        )  # fmt: skip
    except CxrguardError as error:
        raise typer.BadParameter(str(error)) from None
    summary = mitigate_file(request)
    if quiet:
        return
    for line in summary.lines():
        typer.echo(line, err=True)
    summary.show()
