"""The networks in torch: the referee of the exported graphs, and what training changes. Export itself needs no torch.

State-dict names are upstream's, so that a checkpoint loads strictly. Methods carry the names and the ports of
`gsvexport.stages`. Everything works in float64 too: `network.double()`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from gsvexport.stages import FEATURE_WIDTH, FRAMES_PER_CODE, MEL_BANDS, SPEAKER_WIDTH, VERSIONS
from gsvexport.voice.dims import SovitsDims
from gsvexport.voice.layout import T2S_PREFIX
from gsvexport.voice.networks.bigvgan import BigVGAN
from gsvexport.voice.networks.encoder import TextEncoder
from gsvexport.voice.networks.flow import Flow
from gsvexport.voice.networks.matching import Estimator, FeatureNet
from gsvexport.voice.networks.reference import Quantizer, ReferenceEncoder
from gsvexport.voice.networks.text2semantic import Text2Semantic
from gsvexport.voice.networks.vocoder import Generator
from gsvexport.voice.vocoder import BIGVGAN
from gsvexport.voice.voice import Voice

__all__ = ["Synthesizer", "Text2Semantic", "load_networks"]


class Synthesizer(nn.Module):
    """SoVITS: semantic codes, phones and a speaker's conditioning to audio; in v3 and v4 by way of a mel."""

    def __init__(self, dims: SovitsDims) -> None:
        super().__init__()
        self.dims = dims
        self.enc_p = TextEncoder(dims)
        if dims.matching is None:
            self.dec = Generator(dims)
            self.flow = Flow(dims)
        else:
            self.bridge = nn.Sequential(nn.Conv1d(dims.hidden, FEATURE_WIDTH, 1), nn.LeakyReLU(0.01))
            self.wns1 = FeatureNet(dims)
            self.linear_mel = nn.Conv1d(FEATURE_WIDTH, MEL_BANDS, 1)  # a loss of training's
            self.cfm = nn.ModuleDict({"estimator": Estimator(dims.matching)})
            self.mel_vocoder = BigVGAN(dims) if dims.matching.vocoder == BIGVGAN else Generator(dims)
        self.ref_enc = ReferenceEncoder(dims)
        self.ssl_proj = nn.Conv1d(dims.ssl, dims.ssl, FRAMES_PER_CODE, stride=FRAMES_PER_CODE)
        self.quantizer = Quantizer(dims.codes, dims.ssl)
        if dims.speaker_width is not None:
            self.sv_emb = nn.Linear(SPEAKER_WIDTH, dims.gin)
            self.ge_to512 = nn.Linear(dims.gin, dims.ge_text_width)
            self.prelu = nn.PReLU(dims.gin)

    def prompt(self, ssl_content: Tensor) -> Tensor:
        """HuBERT features [1, 768, S] to codes [1, S//2]."""
        return self.quantizer.encode(self.ssl_proj(ssl_content))

    def reference(self, spectrogram: Tensor, speaker: Tensor | None = None) -> tuple[Tensor, ...]:
        """Spectrogram [1, 1025, R] (and speaker [1, 20480]) to (ge [1, G, 1],), or (ge, ge_text [1, 512, 1]).

        Several references: average their ge, and take `text_conditioning` of the average.
        """
        ge = self.ref_enc(spectrogram[:, : self.dims.ref_bins])
        if speaker is None:
            return (ge,)
        ge = self.prelu(ge + self.sv_emb(speaker)[..., None])
        return ge, self.text_conditioning(ge)

    def text_conditioning(self, ge: Tensor) -> Tensor:
        """Ge [1, G, 1] as the text encoder takes it, [1, 512, 1]."""
        out: Tensor = self.ge_to512(ge.mT).mT
        return out

    def prior(self, codes: Tensor, phones: Tensor, ge_text: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """Codes [1, T], phones [1, X], ge_text [1, 512, 1] to mean and log deviation, [1, I, frames] each."""
        features = self.quantizer.decode(codes).repeat_interleave(FRAMES_PER_CODE, dim=-1)
        mean, log_deviation = self.enc_p(features, phones, ge_text, frames)
        return mean, log_deviation

    def acoustic(
        self,
        codes: Tensor,
        phones: Tensor,
        ge: Tensor,
        ge_text: Tensor | None,
        noise: Tensor,
        noise_scale: Tensor | float,
    ) -> Tensor:
        """The latent [1, I, F]; F comes from `noise`. `ge_text` is None where a version has none of its own."""
        mean, log_deviation = self.prior(codes, phones, ge if ge_text is None else ge_text, noise.shape[-1])
        latent: Tensor = self.flow(mean + noise * torch.exp(log_deviation) * noise_scale, ge, inverse=True)
        return latent

    def vocoder(self, latent: Tensor, ge: Tensor) -> Tensor:
        """Latent [1, I, F] to audio [1, F·hop]."""
        audio: Tensor = self.dec(latent, ge)
        return audio[:, 0]

    def features(self, codes: Tensor, phones: Tensor, ge: Tensor, mask: Tensor) -> Tensor:
        """v3, v4: codes [1, T], phones [1, X], ge [1, 512, 1], mask [1, 1, M] to fea [1, 512, M]."""
        mel = VERSIONS[self.dims.version].mel
        assert mel is not None
        (up, down), count = mel.stretch, mask.shape[2]
        ssl = self.quantizer.decode(codes).repeat_interleave(FRAMES_PER_CODE, dim=-1)
        x = self.bridge(self.enc_p.hidden(ssl, phones, ge, -(-count * down // up)))
        x = torch.nn.functional.interpolate(x, scale_factor=up / down, mode="nearest")[..., :count]
        out: Tensor = self.wns1(x, mask, ge)
        return out

    def velocity(self, state: Tensor, prompt_mel: Tensor, fea: Tensor, time: Tensor, span: Tensor) -> Tensor:
        """v3, v4: one step of flow matching; see stage `cfm`."""
        out: Tensor = self.cfm["estimator"](state, prompt_mel, fea, time, span)
        return out

    def speak(self, mel: Tensor) -> Tensor:
        """v3, v4: mel [1, 100, M] to audio [1, M·hop]."""
        audio: Tensor = self.mel_vocoder(mel)
        return audio[:, 0]


def load_networks(voice: Voice) -> tuple[Text2Semantic, Synthesizer]:
    """Both networks in evaluation mode, filled with the voice's weights as float32.

    Raises:
        RuntimeError: a tensor is missing, extra or of another shape (`read_voice` has ruled that out).
    """
    t2s, synthesizer = Text2Semantic(voice.t2s), Synthesizer(voice.acoustics)
    _fill(t2s, {name.removeprefix(T2S_PREFIX): value for name, value in voice.gpt.tensors.items()})
    tensors = dict(voice.sovits.tensors)
    if voice.vocoder is not None:
        tensors |= {f"mel_vocoder.{name}": array for name, array in voice.vocoder.file.tensors.items()}
        shapes = {name: value.shape for name, value in synthesizer.state_dict().items()}
        _fit(tensors, shapes)
    _fill(synthesizer, tensors)
    return t2s, synthesizer


def _fit(tensors: dict[str, np.ndarray], shapes: Mapping[str, torch.Size]) -> None:
    """Folded weight norm as one that is not, and a last bias of zero where a file has none."""
    for name in [name for name in tensors if name.startswith("mel_vocoder.") and name not in shapes]:
        if f"{name}_v" in shapes:
            weight = tensors.pop(name)
            tensors[f"{name}_v"] = weight
            tensors[f"{name}_g"] = np.sqrt((weight.astype(np.float64) ** 2).sum(axis=(1, 2), keepdims=True))
    for name in ("mel_vocoder.conv_post.bias",):
        if name in shapes and name not in tensors:
            tensors[name] = np.zeros(1, np.float32)


def _fill(network: nn.Module, tensors: Mapping[str, np.ndarray]) -> None:
    network.load_state_dict({name: torch.from_numpy(value.astype(np.float32)) for name, value in tensors.items()})
    network.eval()
