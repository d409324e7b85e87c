"""Which tokens make a prompt's score: the gradient of Wen's score with respect to each token's hidden state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cxrguard.diffusion.denoiser import Denoiser
from cxrguard.diffusion.sampling import ddim_scheduler
from cxrguard.probes.batch import ProbeBatch
from cxrguard.probes.text_difference import check_seeds, check_steps
from cxrguard.probes.tokens import SECTIONS, TokenLayout


@dataclass(frozen=True)
class TokenAttribution:
    """What each token contributes; float32, averaged over steps and noises.

    A hidden state is not its token alone: the encoder has mixed in other tokens (CLIP those before it, BERT all). The padding's
    and the end token's share is therefore real, and is kept apart by ``tokens``.

    Attributes:
        gradient: g_i = ‖∂s/∂e_i‖₂, ``[N, L]``; range [0, ∞), higher means that the score hangs on the token more.
        gradient_times_input: ∂s/∂e_i · (e_i − e_∅,i), ``[N, L]``: to first order the change of the score if the token is given back
            to the empty prompt, with the sign turned. Any sign; above 0 means that the token raises the score.
        tokens: which tokens are the prompt's own, if the batch says so.

    """

    gradient: Tensor
    gradient_times_input: Tensor
    tokens: TokenLayout | None

    def by_section(self) -> dict[str, Float[Tensor, " n"]]:
        """Mean of ``gradient`` over the tokens of each of :data:`cxrguard.probes.tokens.SECTIONS`; NaN where it has none.

        Raises:
            ValueError: If the tokens are not known.

        """
        masks = self._masks()
        return {name: (self.gradient * mask).sum(dim=1) / mask.sum(dim=1) for name, mask in masks.items()}

    def change_by_section(self) -> dict[str, Float[Tensor, " n"]]:
        """Sum of ``gradient_times_input`` over the tokens of each section: to first order its part of the score; 0 where it has none.

        Raises:
            ValueError: If the tokens are not known.

        """
        return {name: (self.gradient_times_input * mask).sum(dim=1) for name, mask in self._masks().items()}

    def _masks(self) -> dict[str, Tensor]:
        if self.tokens is None:
            raise ValueError("the batch did not say where its tokens lie; give ProbeBatch.tokens")
        return {name: self.tokens.section(name).to(self.gradient.device) for name in SECTIONS}


def attribute_tokens(
    denoiser: Denoiser, batch: ProbeBatch, *, steps: int = 1, seeds: int = 4, schedule_steps: int = 50, guidance_scale: float = 7.5
) -> TokenAttribution:
    """Mean over steps and noises of the gradient of s = ‖ε(x_t, e) − ε(x_t, ∅)‖₂ with respect to each token's e_i.

    The attribution of Wen et al., ICLR 2024 (section 4.3), per sample. x_t is held fixed at each step, and is led on by
    guidance towards the text. The empty prompt is a constant. 2 evaluations a step and noise, one of them with a backward pass. Weights
    get no gradient, and nothing is changed.

    Args:
        denoiser: the model.
        batch: the prompts.
        steps: the first so many steps of the guided trajectory.
        seeds: starting noises a prompt.
        schedule_steps: length of the trailing-spaced DDIM schedule.
        guidance_scale: guidance along the trajectory.

    """
    check_steps(steps, schedule_steps)
    states = batch.encoder_hidden_states.detach()
    input_change = states - batch.uncond_hidden_states
    norms, products = [], []
    for seed in range(check_seeds(seeds)):
        for gradient in _gradients(denoiser, batch, seed, steps, schedule_steps, guidance_scale):
            norms.append(torch.linalg.vector_norm(gradient, dim=2))
            products.append((gradient * input_change).sum(dim=2))
    return TokenAttribution(torch.stack(norms).mean(dim=0).float(), torch.stack(products).mean(dim=0).float(), batch.tokens)


def _gradients(
    denoiser: Denoiser, batch: ProbeBatch, seed: int, steps: int, schedule_steps: int, guidance_scale: float
) -> Iterator[Float[Tensor, "n l d"]]:
    """∂s/∂e at each of the first steps."""
    latents = batch.noise(seed).to(batch.encoder_hidden_states.dtype)
    scheduler = ddim_scheduler(batch.scheduler_config, schedule_steps, latents.device)
    scheduler.register_to_config(prediction_type="epsilon")  # the denoiser speaks noise, whatever it was trained to predict
    for t in scheduler.timesteps[:steps]:
        text, uncond, gradient = difference_gradient(denoiser, batch, latents, int(t))
        yield gradient
        latents = scheduler.step(uncond + guidance_scale * (text - uncond), t, latents, return_dict=False)[0]


def difference_gradient(
    denoiser: Denoiser, batch: ProbeBatch, latents: Float[Tensor, "n c h w"], timestep: int
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, "n c h w"], Float[Tensor, "n l d"]]:
    """ε(x_t, e), ε(x_t, ∅), and ∂‖ε(x_t, e) − ε(x_t, ∅)‖₂/∂e of each sample; 0 where the two are the same."""
    timesteps = batch.at(timestep, denoiser)
    with torch.no_grad():
        uncond = denoiser.predict_noise(latents, timesteps, batch.uncond_hidden_states.expand_as(batch.encoder_hidden_states))
    with torch.enable_grad():
        states = batch.encoder_hidden_states.detach().requires_grad_()
        text = denoiser.predict_noise(latents, timesteps, states)
        # Samples do not mix, so that the gradient of the sum holds the gradient of each.
        total = torch.linalg.vector_norm((text - uncond).flatten(1), dim=1).sum()
        (gradient,) = torch.autograd.grad(total, states)
    return text.detach(), uncond, gradient
