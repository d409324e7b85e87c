"""Several captions a sample."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrguard.data.batches import CachedSamples, EpochSampler, GatedCollate
from cxrguard.data.captions import CaptionVariants, share_changed
from cxrguard.errors import CxrguardError
from cxrguard.sanitizer.sanitizer import PromptSanitizer

PROMPTS = ["Clear lungs. No effusion.", "Small left effusion, stable heart size.", "Lines in place."]


def test_one_caption_is_the_prompt():
    assert CaptionVariants().of(PROMPTS, 0) == PROMPTS


def test_the_first_of_each_is_the_prompt_itself():
    captions = CaptionVariants(variants=4, word_drop=0.5, random_insert=0.5).of(PROMPTS, 0)
    assert captions[::4] == PROMPTS and len(set(captions)) > 6
    assert 0 < share_changed(PROMPTS, captions, 4) <= 0.75


@given(st.lists(st.text(), min_size=1, max_size=6), st.integers(1, 4), st.floats(0, 0.9), st.floats(0, 0.9))
@settings(deadline=None)
def test_captions_have_words_of_the_set_alone(prompts, variants, drop, insert):
    captions = CaptionVariants(variants, drop, insert).of(prompts, 3)
    words = {word for prompt in prompts for word in prompt.split()}
    assert len(captions) == variants * len(prompts)
    assert {word for caption in captions for word in caption.split()} <= words


def test_a_caption_does_not_depend_on_where_its_prompt_stands():
    some = CaptionVariants(variants=3)
    forward, backward = some.of(PROMPTS, 1), some.of(PROMPTS[::-1], 1)
    assert [backward[i : i + 3] for i in (6, 3, 0)] == [forward[i : i + 3] for i in (0, 3, 6)]


def test_shares_are_about_what_is_asked_for():
    prompt = " ".join(f"w{i}" for i in range(4000))
    (_, dropped), (_, inserted) = (CaptionVariants(2, drop, insert).of([prompt], 0) for drop, insert in ((0.1, 0.0), (0.0, 0.1)))
    assert len(dropped.split()) == pytest.approx(3600, abs=80) and len(inserted.split()) == pytest.approx(4400, abs=80)


def test_a_showing_has_the_states_and_ids_of_its_caption():
    captions = CaptionVariants(variants=3, word_drop=0.4).of(PROMPTS, 0)
    states = torch.arange(9.0)[:, None, None].expand(9, 2, 1)
    samples = CachedSamples(torch.zeros(3, 1, 2, 2), states, captions, [1, 2, 1], captions=3, seed=5)
    seen = set()
    for epoch in range(12):
        EpochSampler(len(samples), 5, samples=samples).set_epoch(epoch)
        batch = GatedCollate(samples, PromptSanitizer(["auto"], action="off"))([samples[i] for i in range(4)])
        assert torch.equal(batch["encoder_hidden_states"][:, 0, 0], batch["captions"].float())
        assert torch.equal(batch["captions"] // 3, batch["sample_ids"])
        seen |= set(batch["captions"].tolist())
    assert seen == set(range(9))


@pytest.mark.parametrize("wrong", [{"variants": 0}, {"word_drop": 1.0}, {"random_insert": -0.1}])
def test_wrong_settings_are_told(wrong):
    with pytest.raises(CxrguardError, match="guard.captions"):
        CaptionVariants(**wrong)
