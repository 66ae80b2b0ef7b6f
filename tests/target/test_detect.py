"""Devices, described by hand as their kernels and drivers do, against all built-in targets."""

import pytest

from gsvexport.registry.publish import _device
from gsvexport.target.detect import Candidate, GpuSeen, Probe, cores, probe, rank, recorded
from gsvexport.target.target import read_target, target_names

ARM = "processor\t: {number}\nFeatures\t: {features}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n"
A53 = "fp asimd evtstrm crc32 cpuid"
A76 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
V1 = f"{A76} sve bf16 i8mm"
X86 = "processor\t: 0\nflags\t\t: fpu avx avx2 fma f16c {more}\n"
VNNI = "avx512f avx512bw avx512dq avx512vl avx512_vnni"
HOPPER = GpuSeen("NVIDIA H200", "9.0", 143_771)


def arm(*parts, features=A76, **what):
    text = "".join(ARM.format(number=number, features=features, part=part) for number, part in enumerate(parts))
    return recorded("aarch64", text, **what)


def x86(more="", **what):
    return recorded("x86-64", X86.format(more=more), **what)


DEVICES = {
    "raspberry-pi-4": arm(
        *["0xd08"] * 4, features=A53, names=("Raspberry Pi 4 Model B Rev 1.4", "raspberrypi,4-model-b"), memory_mb=3792
    ),
    "raspberry-pi-5": arm(
        *["0xd0b"] * 4, names=("Raspberry Pi 5 Model B Rev 1.0", "raspberrypi,5-model-b"), memory_mb=8062
    ),
    "rk3588": arm(
        *["0xd05"] * 4,
        *["0xd0b"] * 4,
        names=("Radxa ROCK 5B", "radxa,rock-5b", "rockchip,rk3588"),
        memory_mb=15_900,
    ),
    "graviton3": arm(*["0xd40"] * 2, features=V1, names=("c7g.large",), memory_mb=3800),
    "generic-arm64": arm("0xd07", "0xd07", features=A53, memory_mb=2000),
    "jetson-orin-nano": arm(
        *["0xd42"] * 6,
        names=("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "nvidia,tegra234"),
        memory_mb=7620,
        gpus=(GpuSeen("Orin", "8.7", 7620),),
    ),
    "jetson-orin": arm(  # the module with 4 GB: too little memory for jetson-orin-nano
        *["0xd42"] * 6,
        names=("NVIDIA Jetson Orin Nano 4GB", "nvidia,tegra234"),
        memory_mb=3400,
        gpus=(GpuSeen("Orin", "8.7", 3400),),
    ),
    "jetson-agx-orin": arm(
        *["0xd42"] * 12,
        names=("NVIDIA Jetson AGX Orin Developer Kit", "nvidia,tegra234"),
        memory_mb=62_800,
        gpus=(GpuSeen("Orin", "8.7", 62_800),),
    ),
    "jetson-xavier": arm(
        "0x004",
        features=A76,
        names=("NVIDIA Jetson Xavier NX Developer Kit",),
        memory_mb=6800,
        gpus=(GpuSeen("Xavier", "7.2", 6800),),
    ),
    "coral-dev-board": arm(
        *["0xd03"] * 4, features=A53, names=("Freescale i.MX8MQ Phanbell",), memory_mb=980, tpus=("pcie",)
    ),
    "coral-usb-pi4": arm(
        *["0xd08"] * 4, features=A53, names=("Raspberry Pi 4 Model B Rev 1.4",), memory_mb=3792, tpus=("usb",)
    ),
    "x86-64-vnni": x86(VNNI),
    "x86-64-int8": x86(),
    "h200": x86(VNNI, gpus=(HOPPER,), names=(HOPPER.name,)),
    "h100": x86(VNNI, gpus=(GpuSeen("NVIDIA H100 80GB HBM3", "9.0", 81_559),)),
    "a10": x86(gpus=(GpuSeen("NVIDIA A10G", "8.6", 22_731),)),
    "a100": x86(gpus=(GpuSeen("NVIDIA A100-SXM4-40GB", "8.0", 40_536),)),
    "rtx-4090": x86(gpus=(GpuSeen("NVIDIA GeForce RTX 4090", "8.9", 24_564),)),
    "rtx-3060": x86(gpus=(GpuSeen("NVIDIA GeForce RTX 3060", "8.6", 12_288),)),
    "apple-silicon": Probe("aarch64", "macos"),
    "arm64-android": Probe("aarch64", "android", ("neon", "dotprod", "fp16"), ("cortex-a78",), 7500),
}
SIZES = {"x86-64": 45, "x86-64-int8": 12}


@pytest.fixture(scope="module")
def everything():
    targets = [read_target(name) for name in target_names()]
    return [Candidate(one.name, _device(one.to_json()), SIZES.get(one.name, 20)) for one in targets]


@pytest.mark.parametrize("expected", DEVICES)
def test_a_device_gets_what_was_made_for_it(everything, expected):
    best = rank(DEVICES[expected], everything)[0]
    assert best.candidate.target == expected, best.line
    assert not best.against
    assert best.reasons


def test_what_does_not_run_is_never_chosen_and_says_why(everything):
    lines = {one.candidate.target: one for one in rank(DEVICES["raspberry-pi-4"], everything)}
    assert lines["x86-64"].line == "x86-64: no: for x86-64, and this is aarch64"
    assert "wants dotprod, fp16 of the processor" in lines["raspberry-pi-5"].line
    assert "no NVIDIA GPU" in lines["jetson-orin"].line
    assert "Edge TPU" in lines["coral-dev-board"].line
    assert not lines["generic-arm64"].against


def test_an_npu_is_there_where_the_board_calls_itself_its_chip(everything):
    def against(device):
        return {one.candidate.target: one.against for one in rank(device, everything)}

    found = against(DEVICES["rk3588"])
    assert not found["rk3588-npu"]
    assert found["rk3576-npu"] == ("wants the NPU of an rk3576, and nothing here calls itself that",)
    assert found["rk3566-npu"]
    assert against(DEVICES["raspberry-pi-5"])["rk3588-npu"]
    sister = arm(*["0xd05"] * 4, names=("Radxa ROCK 3A", "radxa,rock3a", "rockchip,rk3568"), memory_mb=3900)
    assert not against(sister)["rk3566-npu"]


def test_without_its_own_it_gets_the_next_best(everything):
    left = [one for one in everything if one.target not in ("raspberry-pi-5", "coral-usb-pi5")]
    assert rank(DEVICES["raspberry-pi-5"], left)[0].candidate.target == "rk3588"  # the same core
    left = [one for one in everything if one.target in ("generic-arm64", "graviton3")]
    assert rank(DEVICES["raspberry-pi-5"], left)[0].candidate.target == "generic-arm64"


def test_a_gpu_that_too_little_is_known_of_is_not_used(everything):
    seen = x86(gpus=(GpuSeen("NVIDIA GeForce RTX 4060", "8.9", 8188),))
    assert rank(seen, everything)[0].candidate.target == "x86-64-int8"


def test_a_plain_target_goes_before_its_tiers():
    device = {"arch": "x86-64", "os": "linux", "features": ["avx2"]}
    found = rank(x86(), [Candidate("x86-64+mobile", device, 1), Candidate("x86-64", device, 2)])
    assert [one.candidate.target for one in found] == ["x86-64", "x86-64+mobile"]
    pi = [Candidate("raspberry-pi-5+mobile", {"arch": "aarch64"}, 1)]
    assert "calls itself" in rank(DEVICES["raspberry-pi-5"], pi)[0].line


def test_the_order_does_not_depend_on_the_index(everything):
    for seen in DEVICES.values():
        one = [item.candidate.target for item in rank(seen, everything)]
        assert one == [item.candidate.target for item in rank(seen, everything[::-1])]


@pytest.mark.parametrize("device", [{}, {"arch": 5}, {"arch": "x86-64", "features": [1], "gpu": 3, "memory_mb": "x"}])
def test_strange_device_tables_do_not_break_it(device):
    assert len(rank(x86(), [Candidate("odd", device, 1)])) == 1


def test_cores_of_a_big_little_processor_are_all_seen():
    assert cores("CPU implementer : 0x41\nCPU part : 0xd05\nCPU implementer : 0x41\nCPU part : 0xd0b\n") == (
        *("cortex-a55", "cortex-a76"),
    )
    assert cores("CPU implementer : 0x51\nCPU part : 0xd0b\n") == ()


def test_a_board_is_read_from_the_kernels_files(tmp_path, monkeypatch):
    import platform

    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    (tmp_path / "proc/device-tree/compatible").write_bytes(b"raspberrypi,5-model-b\0brcm,bcm2712\0")
    (tmp_path / "proc/cpuinfo").write_text(ARM.format(number=0, features=A76, part="0xd0b"))
    (tmp_path / "proc/meminfo").write_text("MemTotal:        8255488 kB\nMemFree: 1 kB\n")
    stick = tmp_path / "sys/bus/usb/devices/2-1"
    stick.mkdir(parents=True)
    (stick / "idVendor").write_text("18d1\n")
    (stick / "idProduct").write_text("9302\n")
    seen = probe(tmp_path)
    assert (seen.arch, seen.system, seen.cores, seen.memory_mb) == ("aarch64", "linux", ("cortex-a76",), 8062)
    assert seen.names[:3] == ("Raspberry Pi 5 Model B Rev 1.0", "raspberrypi,5-model-b", "brcm,bcm2712")
    assert seen.features == ("neon", "dotprod", "fp16")
    assert seen.tpus == ("usb",)


def test_this_machine_can_be_looked_at():
    assert probe().arch
