"""Tiny real components on disk, and the way to run ``train.py`` as a user would."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("CXRGUARD_SHARED", ROOT.parent / "shared"))

# A run of a few seconds: few steps, few samples, everything else as in a real one.
SMALL = [
    "data.reader.n_patients=260",
    "data.heldout_fraction=0.5",
    "canaries.n=4",
    "canaries.repeats=4",
    "canaries.n_controls=12",
    "canaries.n_members=6",
    "canaries.n_prompt_controls=12",
    "trainer.max_steps=6",
    "trainer.accelerator=cpu",
    "probes.every_n_steps=3",
    "probes.max_share=null",
    "embedder=none",
    "checkpoint.every_n_steps=3",
    "sampling.steps=2",
    "sampling.samples_per_prompt=2",
    "probe.text_noise_norm_mean.steps=2",
    "probe.text_noise_norm.seeds=1",
    "probe.denoising_loss.seeds=1",
]


def make_pipeline(directory: Path, prediction_type: str = "epsilon", latent_channels: int = 4, encoder: str = "clip") -> Path:
    """Save a random tiny text-to-image pipeline that plain diffusers loads."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
    from tiny_unet import tiny_unet
    from transformers import BertConfig, BertModel, BertTokenizerFast, CLIPTextConfig, CLIPTextModel

    from cxrguard.data.phantom import PhantomReader
    from cxrguard.diffusion.base_model import train_tokenizer

    torch.manual_seed(0)
    prompts = [r.prompt for r in PhantomReader(n_patients=20).read()[0]]
    if encoder == "clip":
        tokenizer = train_tokenizer(prompts, directory.parent / "tokenizer_work")
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=77,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        )
    else:
        words = sorted(
            {w for p in prompts for w in p.lower().replace(".", " ").replace(":", " ").split()} | set("abcdefghijklmnopqrstuvwxyz")
        )
        vocab = {
            w: i
            for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz")])
        }
        tokenizer = BertTokenizerFast(vocab=vocab, model_max_length=128)
        text = BertModel(
            BertConfig(
                vocab_size=len(vocab),
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                max_position_embeddings=128,
            )
        )
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=4,
        sample_size=64,
    )
    unet = tiny_unet(latent_channels)
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, prediction_type=prediction_type, clip_sample=False
    )
    pipe = StableDiffusionPipeline(vae, text, tokenizer, unet, scheduler, None, None, requires_safety_checker=False)
    pipe.save_pretrained(directory, safe_serialization=True)
    return directory


@pytest.fixture(scope="session")
def pipeline_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An epsilon-prediction CLIP pipeline."""
    return make_pipeline(tmp_path_factory.mktemp("pipeline") / "pipe")


@pytest.fixture(scope="session")
def v_pipeline_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A v-prediction pipeline with a BERT-style encoder of 128 tokens and 8 latent channels."""
    return make_pipeline(tmp_path_factory.mktemp("v_pipeline") / "pipe", "v_prediction", 8, "bert")


Train = Callable[..., subprocess.CompletedProcess[str]]


def train_command(directory: Path, overrides: tuple[str, ...], small: bool, threads: int) -> tuple[list[str], dict[str, str]]:
    """The command and environment of a run in ``directory``, as a user would start it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")} | {
        "OMP_NUM_THREADS": str(threads),
        "CXRGUARD_KEY_FILE": str(directory.parent / "key"),  # one for all runs
        "HF_HUB_OFFLINE": "1",
        "HTTPS_PROXY": "http://127.0.0.1:9",  # nothing is to need the network
    }
    # only phantoms can be asked for a number of patients
    phantoms = not any(o.startswith(("data=", "experiment=nih")) for o in overrides)
    defaults = [o for o in SMALL if phantoms or not o.startswith("data.reader.")] if small else []
    flags = [o for o in overrides if o.startswith("-")]  # argparse takes no flag between overrides
    return [sys.executable, str(ROOT / "train.py"), *flags, *defaults, *(o for o in overrides if o not in flags)], environment


def run_train(
    directory: Path, *overrides: str, small: bool = True, threads: int = 1, timeout: int = 900
) -> subprocess.CompletedProcess[str]:
    """Run ``train.py`` in ``directory``."""
    command, environment = train_command(directory, overrides, small, threads)
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=timeout, check=False)


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start ``train.py`` in a directory and go on: ``start(directory, *overrides, environment={})``; ended after the test."""
    processes = []

    def begin(directory: Path, *overrides: str, environment: Mapping[str, str] = MappingProxyType({})) -> subprocess.Popen[str]:
        directory.mkdir(exist_ok=True)
        command, own = train_command(directory, overrides, small=True, threads=1)
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        processes.append(subprocess.Popen(command, cwd=directory, env=own | dict(environment), **streams))
        return processes[-1]

    yield begin
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="session")
def train_in() -> Train:
    """:func:`run_train`, for runs that several tests share."""
    return run_train


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Run ``train.py`` with overrides in a directory of its own."""
    return functools.partial(run_train, tmp_path)
