"""Our networks in torch against upstream's own inputs and outputs, and against themselves in double precision."""

from __future__ import annotations

import numpy as np
import pytest
from conformance import conformance

from gsvexport.stages import frames
from gsvexport.synthetic import write_voice
from gsvexport.voice.voice import read_voice

torch = pytest.importorskip("torch")
networks = pytest.importorskip("gsvexport.voice.networks")

LOGITS, HIDDEN, ACOUSTIC = 1e-4, 2e-5, 2e-5  # the referee's own tolerances for float32
TOML = '[voice]\nname = "conformance"\nlanguage = "en"\ngpt = "gpt.ckpt"\nsovits = "sovits.pth"\n'


class Case:
    """Both networks of one voice and upstream's arrays, as tensors of the networks' precision."""

    def __init__(self, folder, arrays, dtype):
        self.voice = read_voice(folder)
        self.t2s, self.synthesizer = (network.to(dtype) for network in networks.load_networks(self.voice))
        self.arrays, self.dtype = arrays, dtype

    def get(self, name):
        tensor = torch.from_numpy(self.arrays[name])
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def condition(self, prefix="s2_a", suffix=""):
        speaker = f"{prefix}_sv_emb{suffix}"
        return self.synthesizer.reference(
            self.get(f"{prefix}_refer{suffix}"), self.get(speaker) if speaker in self.arrays else None
        )

    def latent(self, ge, codes, phones, speed=1.0, noise=None, noise_scale=0.0):
        if noise is None:
            noise = torch.zeros(1, self.voice.acoustics.inter, frames(codes.shape[1], speed), dtype=self.dtype)
        text = ge[1] if len(ge) > 1 else None
        return self.synthesizer.acoustic(codes, phones, ge[0], text, noise, noise_scale)

    def decode(self, tokens, letter="a"):
        """Logits [1 + tokens, V] with the tokens given, and the caches at the end."""
        name = f"t2s_{letter}"
        prompt = self.get(f"{name}_prompt") if f"{name}_prompt" in self.arrays else torch.zeros(1, 0, dtype=torch.long)
        logits, keys, values = self.t2s.prefill(self.get(f"{name}_phones"), self.get(f"{name}_bert"), prompt)
        rows = [logits]
        for place, token in enumerate(tokens, start=prompt.shape[1]):
            logits, key, value = self.t2s.step(torch.tensor([[int(token)]]), torch.tensor([place]), keys, values)
            keys, values = torch.cat([keys, key], 2), torch.cat([values, value], 2)
            rows.append(logits)
        return torch.cat(rows), keys, values


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module", params=["v1", "v2", "v2Pro", "v2ProPlus"])
def case(request, tmp_path_factory):
    data = conformance(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    for name in ("gpt.ckpt", "sovits.pth"):
        (folder / name).symlink_to(data.folder / name)
    (folder / "voice.toml").write_text(TOML)
    return Case(folder, data.arrays, torch.float32)


def close(found, expected, tolerance):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("letter", ["a", "b"])
def test_prefill_gives_upstreams_hidden_states_and_caches(case, letter):
    name = f"t2s_{letter}"
    hidden, keys, values = case.t2s(*(case.get(f"{name}_{port}") for port in ("phones", "bert", "prompt")))
    close(hidden, case.arrays[f"{name}_prefill_hidden"], HIDDEN)
    for cache, letters in ((keys, "k"), (values, "v")):
        close(cache[0], case.arrays[f"{name}_{letters}0"], HIDDEN)
        close(cache[-1], case.arrays[f"{name}_{letters}_last_layer"], HIDDEN)


@pytest.mark.parametrize("letter", ["a", "b"])
def test_steps_give_upstreams_logits_and_cache(case, letter):
    logits, keys, _ = case.decode(case.arrays[f"t2s_{letter}_tokens"][:-1], letter)
    close(logits, case.arrays[f"t2s_{letter}_logits"], LOGITS)
    close(keys[0], case.arrays[f"t2s_{letter}_k0_end"], HIDDEN)


def test_the_end_of_a_sentence_has_upstreams_logits(case):
    logits, _, _ = case.decode(case.arrays["t2s_eos_semantic"][0], "eos")
    close(logits[-1], case.arrays["t2s_eos_logits_last"], LOGITS)


def test_without_a_prompt_the_text_alone_is_read(case):
    logits, _, _ = case.decode(case.arrays["t2s_free_tokens"][:2], "free")
    close(logits, case.arrays["t2s_free_logits_first3"], LOGITS)


@pytest.mark.parametrize("letter", ["a", "b"])
def test_prompt_codes_are_upstreams(case, letter):
    codes = case.synthesizer.prompt(case.get(f"vq_{letter}_ssl"))
    assert torch.equal(codes, case.get(f"vq_{letter}_codes")[0])


@pytest.mark.parametrize("letter", ["a", "b"])
def test_conditioning_is_upstreams(case, letter):
    ge = case.condition(f"s2_{letter}")
    close(ge[0], case.arrays[f"s2_{letter}_ge"], ACOUSTIC)
    assert len(ge) == (2 if f"s2_{letter}_ge512" in case.arrays else 1)
    if len(ge) == 2:
        close(ge[1], case.arrays[f"s2_{letter}_ge512"], ACOUSTIC)


@pytest.mark.parametrize("letter", ["a", "b"])
def test_prior_latent_and_audio_are_upstreams(case, letter):
    name, ge = f"s2_{letter}", case.condition(f"s2_{letter}")
    codes, phones, speed = case.get(f"{name}_codes")[0], case.get(f"{name}_text"), float(case.arrays[f"{name}_speed"])
    mean, log_deviation = case.synthesizer.prior(codes, phones, ge[-1], frames(codes.shape[1], speed))
    close(mean, case.arrays[f"{name}_m_p"], ACOUSTIC)
    close(log_deviation, case.arrays[f"{name}_logs_p"], ACOUSTIC)
    latent = case.latent(ge, codes, phones, speed)
    close(latent, case.arrays[f"{name}_z"], ACOUSTIC)
    close(case.synthesizer.vocoder(latent, ge[0]), case.arrays[f"{name}_audio"][0], ACOUSTIC)


@pytest.mark.parametrize("variant", ["audio_noise05", "speed07_audio", "short_audio", "multi_audio"])
def test_noise_speed_short_input_and_two_references_give_upstreams_audio(case, variant):
    ge, codes, phones = case.condition(), case.get("s2_a_codes")[0], case.get("s2_a_text")
    name = f"s2_a_{variant}"
    if variant == "audio_noise05":
        latent = case.latent(ge, codes, phones, noise=case.get("s2_a_noise"), noise_scale=0.5)
    elif variant == "speed07_audio":
        latent = case.latent(ge, codes, phones, speed=0.7)
    elif variant == "short_audio":
        name, latent = f"s2_{variant}", case.latent(ge, codes[:, :2], phones[:, :1])
    else:
        name, mean = f"s2_{variant}", (ge[0] + case.condition("s2_multi", "2")[0]) / 2
        close(mean, case.arrays["s2_multi_ge"], ACOUSTIC)
        ge = (mean, case.synthesizer.text_conditioning(mean)) if len(ge) == 2 else (mean,)
        latent = case.latent(ge, codes, phones)
    close(case.synthesizer.vocoder(latent, ge[0]), case.arrays[name][0], ACOUSTIC)


OTHER_SIZES = {
    "small": {},
    "plain resblocks": {"resblock": "2", "resblock_dilations": ((1, 3), (2, 1))},
    "even kernel, four heads": {"kernel": 4, "heads": 4, "layers": 3, "t2s_heads": 2, "t2s_layers": 3},
    "three stages": {"upsample_rates": (16, 10, 4), "upsample_kernels": (32, 20, 8), "resblock_kernels": (3, 9)},
}


@pytest.mark.parametrize("version", ["v2", "v2Pro"])
@pytest.mark.parametrize("sizes", OTHER_SIZES.values(), ids=OTHER_SIZES.keys())
def test_single_and_double_precision_agree_at_other_sizes(tmp_path, version, sizes):
    write_voice(tmp_path, version, seed=3, **sizes)
    random = np.random.default_rng(5)
    arrays = {
        "t2s_a_phones": random.integers(0, 700, (1, 9)),
        "t2s_a_prompt": random.integers(0, 1024, (1, 5)),
        "t2s_a_bert": random.standard_normal((1, 1024, 9), np.float32),
        "s2_a_refer": random.random((1, 1025, 30), np.float32) * 5,
        "vq_a_ssl": random.standard_normal((1, 768, 21), np.float32),
        "noise": random.standard_normal((1, 32, 20), np.float32),
    }
    if version == "v2Pro":
        arrays["s2_a_sv_emb"] = random.random((1, 20480), np.float32)
    found = []
    for dtype in (torch.float32, torch.float64):
        case = Case(tmp_path, arrays, dtype)
        logits, keys, values = case.decode([3, 1, 4, 1])
        ge, codes = case.condition(), case.synthesizer.prompt(case.get("vq_a_ssl"))
        latent = case.latent(ge, codes, case.get("t2s_a_phones"), noise=case.get("noise"), noise_scale=0.5)
        audio = case.synthesizer.vocoder(latent, ge[0])
        assert audio.shape == (1, 20 * case.voice.acoustics.hop)
        assert audio.dtype == dtype
        found.append((logits, keys, values, *ge, latent, audio))
        if dtype == torch.float64:
            back = case.synthesizer.flow(latent, ge[0], inverse=False)
            close(case.synthesizer.flow(back, ge[0], inverse=True), latent.numpy(), 1e-12)
    for single, double in zip(*found, strict=True):
        close(single, double.numpy(), 1e-4)


def test_every_parameter_that_speech_needs_is_trained(tmp_path):
    write_voice(tmp_path, "v2Pro", seed=1)
    with torch.inference_mode(False):
        t2s, synthesizer = networks.load_networks(read_voice(tmp_path))
        random = torch.Generator().manual_seed(0)
        phones, codes = (
            torch.randint(0, 700, (1, 12), generator=random),
            torch.randint(0, 1024, (1, 9), generator=random),
        )
        hidden, _, _ = t2s(phones, torch.randn(1, 1024, 12, generator=random), codes)
        t2s.ar_predict_layer(hidden).square().mean().backward()
        ge, ge_text = synthesizer.reference(
            torch.rand(1, 1025, 20, generator=random), torch.rand(1, 20480, generator=random)
        )
        noise = torch.randn(1, synthesizer.dims.inter, 18, generator=random)
        latent = synthesizer.acoustic(codes, phones, ge, ge_text, noise, 0.5)
        synthesizer.vocoder(latent, ge).square().mean().backward()
    for network in (t2s, synthesizer):
        for name, parameter in network.named_parameters():
            # HuBERT features become codes by an arg-min, which has no gradient
            trained = parameter.grad is not None and bool(parameter.grad.any())
            assert trained != name.startswith("ssl_proj."), name
