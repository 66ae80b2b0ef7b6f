"""Voices with random weights, in the file formats that upstream's trainers write: for tests and benchmarks.

    write_voice(Path("voice"))                               # tiny v2: GPT 0.7 MB, SoVITS 30 MB
    write_voice(Path("voice"), "v2ProPlus", "full", seed=7)  # the default sizes of that version
    write_voice(Path("voice"), "v4", lora_rank=8)            # a LoRA, its base, and the vocoder of its version
    write_voice(Path("voice"), resblock="2", resblock_dilations=((1, 3), (1, 3)))

Such a voice says noise, but noise at speech's level: every layer keeps about unit variance. Its sentences end by
themselves, after tens (tiny) or hundreds (full) of codes; `eos_gain=0` makes a voice whose sentences never do.

A tiny SoVITS cannot be smaller, because upstream's code fixes the hidden width (192), the text cross-attention (512),
the codebook (1024 × 768), the flow (4 × 4 layers) and the speaker projection (20480).

Torch is not needed, and equal arguments give equal bytes.
"""

from __future__ import annotations

import math
import wave
from pathlib import Path
from typing import Any

import numpy as np

from gsvexport.files import disk_errors
from gsvexport.stages import CODES_PER_SECOND, SPEAKER_WIDTH, VERSIONS
from gsvexport.synthetic.container import HParams, write_checkpoint
from gsvexport.synthetic.matching import lora_weights, write_vocoder
from gsvexport.synthetic.sizes import CODES, EOS, HOP, RATE, VOCAB, Sizes, voice_sizes
from gsvexport.synthetic.weights import sovits_weights, t2s_weights

__all__ = ["Sizes", "sovits_weights", "t2s_weights", "voice_sizes", "write_voice"]

TRAINER_PATH = "/home/trainer/GPT-SoVITS"  # as real files carry one; nothing that is derived from a voice may
_HEADERS = {"v2Pro": b"05", "v2ProPlus": b"06"}  # in place of "PK"; v1 and v2 keep it
_LORA_HEADERS = {"v3": b"03", "v4": b"04"}
_SECONDS = 4
_PHONES = 30  # of the reference's text


def write_voice(
    folder: Path, version: str = "v2", size: str = "tiny", seed: int = 0, reference: bool = True, **overrides: Any
) -> Path:
    """Write `voice.toml`, `gpt.ckpt`, `sovits.pth` and, with `reference`, what a reference needs; return `folder`.

    v3 and v4 get their vocoder, too, and a LoRA its `base.pth`.

    `size` is "tiny" or "full" (upstream's defaults); `overrides` replace single fields of `Sizes`. The reference is
    4 s of a voiced sound, random phones and prompt codes, and a random speaker embedding where the version takes one.

    Raises:
        InputError: an unknown version, size or override, or sizes that do not fit together.
        EnvironmentProblem: the disk is full or not writable.
    """
    sizes = voice_sizes(version, size, **overrides)
    streams = [int(stream) for stream in np.random.SeedSequence(seed).generate_state(3, np.uint64)]
    root = f"{1_700_000_000 + seed % 100_000_000}.{streams[0] % 10**7:07d}"
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        gpt = {"weight": t2s_weights(sizes, streams[0]), "config": _t2s_config(sizes), "info": "GPT-e15"}
        write_checkpoint(folder / "gpt.ckpt", gpt, root=root)
        del gpt
        lines = ["[voice]", 'name = "synthetic"', 'language = "en"', 'gpt = "gpt.ckpt"', 'sovits = "sovits.pth"']
        whole = sovits_weights(sizes, streams[1])
        if sizes.lora_rank:
            _write_sovits(folder / "base.pth", whole, sizes, root)
            whole = lora_weights(whole, sizes, sizes.lora_rank, streams[1] + 1)
            lines.append('base = "base.pth"')
        _write_sovits(folder / "sovits.pth", whole, sizes, root)
        del whole
        if sizes.mel:
            lines += ["", "[pretrained]", f'vocoder = "{write_vocoder(folder, sizes, streams[1] + 2)}"']
        if reference:
            lines += _write_reference(folder, sizes, np.random.Generator(np.random.PCG64(streams[2])))
        (folder / "voice.toml").write_bytes(("\n".join(lines) + "\n").encode())
    return folder


def _write_sovits(path: Path, weights: dict[str, np.ndarray], sizes: Sizes, root: str) -> None:
    """A SoVITS file; only what upstream writes through memory has a header of its own."""
    lora = any(name.endswith(".lora_A.default.weight") for name in weights)
    content: dict[str, Any] = {
        "weight": weights,
        "config": _sovits_config(sizes),
        "info": "8epoch_1234iteration",
        **({"lora_rank": str(sizes.lora_rank)} if lora else {}),  # a string, as upstream's own
    }
    header = _LORA_HEADERS[sizes.version] if lora else _HEADERS.get(sizes.version)
    write_checkpoint(path, content, root=None if header else root, header=header)


def _write_reference(folder: Path, sizes: Sizes, random: np.random.Generator) -> list[str]:
    with wave.open(str(folder / "reference.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.rint(_voiced(random) * 32767).astype("<i2").tobytes())
    np.save(folder / "prompt_codes.npy", random.integers(0, CODES, _SECONDS * CODES_PER_SECOND, dtype=np.int64))
    phones = random.integers(0, sizes.text_phones, _PHONES)
    lines = [
        "",
        "[reference]",
        'audio = "reference.wav"',
        'prompt_codes = "prompt_codes.npy"',
        f"phones = {phones.tolist()}",
    ]
    if sizes.speaker:
        # As the speaker network's pooled activations are: not negative, of about unit scale.
        np.save(folder / "speaker.npy", random.random(SPEAKER_WIDTH, dtype=np.float32))
        lines.append('speaker = "speaker.npy"')
    return lines


def _voiced(random: np.random.Generator) -> np.ndarray:
    """A gliding pitch with falling harmonics, four syllables a second, and some noise: [N] within ±1."""
    time = np.arange(_SECONDS * RATE) / RATE
    pitch = 120 + 30 * np.sin(2 * math.pi * 0.7 * time)  # Hz
    phase = 2 * math.pi * np.cumsum(pitch) / RATE
    tone = sum(np.sin(order * phase + random.uniform(0, 2 * math.pi)) / order for order in range(1, 31))
    signal = tone * (0.55 - 0.45 * np.cos(2 * math.pi * 4 * time)) + 0.02 * random.standard_normal(time.size)
    return np.asarray(0.5 * signal / np.abs(signal).max())


def _t2s_config(sizes: Sizes) -> dict[str, Any]:
    return {
        "train": {"seed": 1234, "epochs": 15, "batch_size": 8, "precision": "16-mixed", "exp_name": "synthetic"},
        "optimizer": {"lr": 0.01, "lr_init": 0.00001, "lr_end": 0.0001, "warmup_steps": 2000, "decay_steps": 40000},
        "data": {"max_eval_sample": 8, "max_sec": 54, "num_workers": 4, "pad_val": EOS},
        "model": {
            "vocab_size": VOCAB,
            "phoneme_vocab_size": sizes.t2s_phones,
            "embedding_dim": sizes.t2s_width,
            "hidden_dim": sizes.t2s_width,
            "head": sizes.t2s_heads,
            "linear_units": 2048,  # upstream writes it and ignores it: the inner width is 4 × hidden_dim
            "n_layer": sizes.t2s_layers,
            "dropout": 0,
            "EOS": EOS,
            "random_bert": 0,
        },
        "inference": {"top_k": 5 if sizes.version == "v1" else 15},
        "output_dir": f"{TRAINER_PATH}/logs/synthetic/logs_s1",
    }


def _sovits_config(sizes: Sizes) -> HParams:
    folder = f"{TRAINER_PATH}/logs/synthetic"
    return HParams(
        train=HParams(learning_rate=0.0001, betas=[0.8, 0.99], batch_size=4, segment_size=20480, lora_rank="32"),
        data=HParams(
            max_wav_value=32768.0,
            sampling_rate=RATE,
            filter_length=2048,
            hop_length=HOP,
            win_length=2048,
            n_mel_channels=128,
            mel_fmin=0.0,
            mel_fmax=None,
            add_blank=True,
            n_speakers=300,
            cleaned_text=True,
            exp_dir=folder,
        ),
        model=HParams(
            inter_channels=sizes.inter,
            hidden_channels=192,
            filter_channels=sizes.filter,
            n_heads=sizes.heads,
            n_layers=sizes.layers,
            kernel_size=sizes.kernel,
            p_dropout=0.0 if VERSIONS[sizes.version].speaker else 0.1,
            resblock=sizes.resblock,
            resblock_kernel_sizes=list(sizes.resblock_kernels),
            resblock_dilation_sizes=[list(dilations) for dilations in sizes.resblock_dilations],
            # v3 and v4 carry v2's settings along, which nothing of theirs has.
            upsample_rates=[10, 8, 2, 2, 2] if sizes.mel else list(sizes.upsample_rates),
            upsample_initial_channel=512 if sizes.mel else sizes.upsample_initial,
            upsample_kernel_sizes=[16, 16, 8, 2, 2] if sizes.mel else list(sizes.upsample_kernels),
            n_layers_q=3,
            use_spectral_norm=False,
            gin_channels=sizes.gin,
            semantic_frame_rate="25hz",
            freeze_quantizer=True,
            version=sizes.version,
        ),
        s2_ckpt_dir=folder,
        content_module="cnhubert",
        save_weight_dir=f"SoVITS_weights_{sizes.version}",
        name="synthetic",
        version=sizes.version,
        pretrain=None,
        resume_step=None,
    )
