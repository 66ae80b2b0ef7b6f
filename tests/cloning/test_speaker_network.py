from __future__ import annotations

import numpy as np
import pytest
from stage import built

from gsvexport.errors import VoiceError
from gsvexport.graphs.eres2net import speaker
from gsvexport.graphs.layers import Tensors
from gsvexport.synthetic.container import write_checkpoint
from gsvexport.voice.pretrained import read_speaker


@pytest.fixture(scope="module")
def path(networks):
    return networks[0] / networks[1]["speaker"]


def forward(tensors, fbank):
    """The network as the facts describe it, in torch and without folding anything."""
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    w = {name: torch.from_numpy(np.array(array, np.float64)) for name, array in tensors.items()}

    def normal(name, x):
        parts = (w[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *parts, training=False, eps=1e-5)

    def conv(name, x, stride=1):
        kernel = w[f"{name}.weight"]
        return functional.conv2d(x, kernel, w.get(f"{name}.bias"), stride=stride, padding=kernel.shape[-1] // 2)

    def fuse(name, x, y):
        a = normal(f"{name}.local_att.1", conv(f"{name}.local_att.0", torch.cat((x, y), 1)))
        a = 1 + torch.tanh(normal(f"{name}.local_att.4", conv(f"{name}.local_att.3", functional.silu(a))))
        return x * a + y * (2 - a)

    def block(name, x, stride):
        y = functional.hardtanh(normal(f"{name}.bn1", conv(f"{name}.conv1", x, stride)), 0, 20)
        width, before, parts = w[f"{name}.convs.0.weight"].shape[0], None, []
        for index, group in enumerate(torch.split(y, width, 1)):
            if before is not None and f"{name}.fuse_models.{index - 1}.local_att.0.weight" in w:
                group = fuse(f"{name}.fuse_models.{index - 1}", before, group)
            elif before is not None:
                group = before + group
            before = functional.hardtanh(normal(f"{name}.bns.{index}", conv(f"{name}.convs.{index}", group)), 0, 20)
            parts.append(before)
        y = normal(f"{name}.bn3", conv(f"{name}.conv3", torch.cat(parts, 1)))
        if f"{name}.shortcut.0.weight" in w:
            x = normal(f"{name}.shortcut.1", conv(f"{name}.shortcut.0", x, stride))
        return functional.hardtanh(x + y, 0, 20)

    x = functional.relu(
        normal("bn1", conv("conv1", torch.from_numpy(fbank.astype(np.float64)).permute(0, 2, 1)[:, None]))
    )
    outputs = []
    for layer in (1, 2, 3, 4):
        index = 0
        while f"layer{layer}.{index}.conv1.weight" in w:
            x = block(f"layer{layer}.{index}", x, 2 if layer > 1 and index == 0 else 1)
            index += 1
        outputs.append(x)
    fused = fuse("fuse34", outputs[3], conv("layer3_ds", outputs[2], 2))
    return fused.flatten(1, 2).mean(-1).numpy()


@pytest.mark.parametrize("frames", [40, 97])
def test_the_embedding_is_that_of_an_independent_forward(path, frames):
    network = read_speaker(path)
    run = built("speaker", lambda g: speaker(g, Tensors("eres2net", network.tensors)))
    fbank = np.random.default_rng(frames).standard_normal((1, frames, 80)).astype(np.float32) * 3 - 5
    found = run(fbank=fbank)["speaker"]
    assert found.shape == (1, 20480)
    expected = forward(network.tensors, fbank)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_the_topology_of_upstreams_file_is_told_apart_from_others(path, tmp_path):
    tensors = {name: np.array(array) for name, array in read_speaker(path).tensors.items()}
    for broken, told in (
        ({"layer4.0.fuse_models.1.local_att.0.weight": None}, "missing tensor: layer4.0.fuse_models.1"),
        ({"layer3_ds.weight": np.zeros((2048, 16, 1, 1), np.float16)}, "wrong shape: layer3_ds.weight"),
        ({"fuse34.local_att.3.weight": np.zeros((8, 512, 1, 1), np.float16)}, "wrong shape: fuse34"),
    ):
        changed = {name: array for name, array in (tensors | broken).items() if array is not None}
        write_checkpoint(tmp_path / "sv.ckpt", changed, root=None)
        with pytest.raises(VoiceError, match="is not an ERes2NetV2") as error:
            read_speaker(tmp_path / "sv.ckpt")
        assert told in str(error.value)
