"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Model = Annotated[str, typer.Option(metavar="DIR", help="A diffusers pipeline directory.")]
Prompts = Annotated[str, typer.Option(metavar="FILE", help="The table of prompts.")]
Column = Annotated[str, typer.Option(help="The column of the prompts.")]
Base = Annotated[str, typer.Option(metavar="DIR", help="The pipeline that fine-tuning started from.")]
Seeds = Annotated[int, typer.Option(min=1, help="Noises a prompt.")]
Devices = Annotated[int, typer.Option(min=1, help="Processes, each on a device of its own.")]
Resume = Annotated[bool, typer.Option("--resume/--restart", help="Go on where an interrupted run stopped, or start afresh.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Prompts at once.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar and no summary on stderr.")]
