"""Slim from the start: upstream's two training configurations at reduced sizes, and what such a voice will cost.

No weights and no torch: everything follows from the sizes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

from gsvexport.compiler import explain
from gsvexport.compiler.plan import Subject, make_plan
from gsvexport.demo.real import gpt_config, hparams
from gsvexport.files import atomic_directory, canonical_json, refuse_existing, refuse_others, sha256_bytes
from gsvexport.slim.shape import Shapes
from gsvexport.stages import CODES_PER_SECOND, FRAMES_PER_CODE, VERSIONS
from gsvexport.target.target import Target
from gsvexport.voice.dims import SovitsDims
from gsvexport.voice.layout import expected_sovits

# What upstream's own configurations say about training; its web page sets epochs, batches and paths when it starts one.
_S1 = {
    "train": {
        "seed": 1234,
        "epochs": 20,
        "batch_size": 8,
        "save_every_n_epoch": 1,
        "precision": "16-mixed",
        "gradient_clip": 1.0,
    },
    "optimizer": {"lr": 0.01, "lr_init": 0.00001, "lr_end": 0.0001, "warmup_steps": 2000, "decay_steps": 40000},
}
_S1_DATA = {"max_eval_sample": 8, "num_workers": 4}
_S2_TRAIN = {
    "log_interval": 100,
    "eval_interval": 500,
    "seed": 1234,
    "epochs": 100,
    "learning_rate": 0.0001,
    "betas": [0.8, 0.99],
    "eps": 1e-9,
    "batch_size": 32,
    "fp16_run": True,
    "lr_decay": 0.999875,
    "segment_size": 20480,
    "init_lr_ratio": 1,
    "warmup_epochs": 0,
    "c_mel": 45,
    "c_kl": 1.0,
    "text_low_lr_rate": 0.4,
    "grad_ckpt": False,
}


def names(version: str) -> tuple[str, str]:
    """What upstream calls the two configurations of a version, in its folder GPT_SoVITS/configs."""
    return (
        "s1longer.yaml" if version == "v1" else "s1longer-v2.yaml",
        f"s2{version}.json" if VERSIONS[version].speaker else "s2.json",
    )


def write(shapes: Shapes, top_k: int, out: Path, *, force: bool) -> list[Path]:
    """Write the two configurations for a voice of these sizes to the folder `out`; returns their paths.

    Raises:
        InputError: `out` exists and `force` is false, or it holds something else.
        EnvironmentProblem: the disk is full or not writable.
    """
    t2s, sovits = shapes.t2s, shapes.sovits
    config = gpt_config(t2s)
    s1 = {
        **_S1,
        "data": {**_S1_DATA, **config["data"]},
        "model": config["model"],
        "inference": {"top_k": top_k},
    }
    told = hparams(sovits)
    model = dict(told["model"])
    if VERSIONS[sovits.version].speaker:
        model["p_dropout"] = 0.0
    s2 = {
        "train": _S2_TRAIN,
        "data": told["data"],
        "model": model,
        "s2_ckpt_dir": "logs/s2/big2k1",
        "content_module": "cnhubert",
    }
    first, second = names(sovits.version)
    refuse_existing(out, force=force)
    refuse_others(out, own=os.path.isdir(out) and set(os.listdir(out)) <= {first, second}, what="such configurations")
    with atomic_directory(out, force=force) as work:
        (work / first).write_bytes(_yaml(s1).encode())
        (work / second).write_bytes((json.dumps(s2, indent=2) + "\n").encode())
    return [out / first, out / second]


def _yaml(tables: dict[str, Any]) -> str:
    """Tables of plain values. YAML 1.1 takes 1e-05 for a string, so numbers are written out."""
    lines = []
    for name, table in tables.items():
        lines.append(f"{name}:")
        for key, value in table.items():
            lines.append(f"  {key}: {f'{value:.7f}'.rstrip('0') if isinstance(value, float) and value < 1 else value}")
    return "\n".join([*lines, ""])


def vocoder_work(dims: SovitsDims) -> float:
    """Multiply-adds of the vocoder for one second of sound: each kernel once for every step of its own rate.

    A transposed convolution's kernel is applied once for every step that it takes in.
    """
    rates = [float(CODES_PER_SECOND * FRAMES_PER_CODE)]
    for up in dims.upsample_rates:
        rates.append(rates[-1] * up)
    blocks = len(dims.resblock_kernels)
    total = 0.0
    for name, shape in expected_sovits(dims).items():
        if not name.startswith("dec.") or name.startswith("dec.cond") or len(shape) < 3 or name.endswith("weight_g"):
            continue
        part, place = name.split(".")[1:3]
        stage = {"conv_pre": 0, "conv_post": len(dims.upsample_rates)}.get(part)
        if stage is None:
            stage = int(place) if part == "ups" else int(place) // blocks + 1
        total += prod(shape) * rates[stage]
    return total


def costs(before: Shapes, after: Shapes, targets: Sequence[Target]) -> str:
    """What a voice of these sizes will take, beside one of the sizes before, and on each target, as text."""
    rows = []
    for name, one, other in zip(("T2S", "SoVITS"), before.parameters, after.parameters, strict=True):
        rows.append(f"{name}: {other:,} weights, {other / one - 1:+.1%}")
    work, whole = vocoder_work(after.sovits), vocoder_work(before.sovits)
    rows.append(f"vocoder: {work / 1e9:.2f} G multiply-adds a second of sound, {work / whole - 1:+.1%}")
    parts = ["\n".join([*rows, ""])]
    sizes = explain.count(asdict(after.t2s), asdict(after.sovits))
    key = sha256_bytes(canonical_json([asdict(after.t2s), asdict(after.sovits)]).encode())
    for target in targets:
        plan = make_plan(target, Subject("voice", "planned", after.sovits.version, True, key))
        parts.append(f"\n{target.name}: {target.title}\n" + explain.costs(plan, sizes))
    return "".join(parts)
