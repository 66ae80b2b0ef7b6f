"""Which machine this is, from texts of /proc/cpuinfo as real machines show them, and which artifacts it refuses."""

import pytest

from gsvexport.errors import ArtifactError
from gsvexport.target.machine import ARCHITECTURES, Machine, check_machine, features, mismatch, this_machine

PI4 = "".join(f"processor\t: {core}\nFeatures\t: fp asimd evtstrm crc32 cpuid\n" for core in range(4))
PI5 = PI4.replace("cpuid", "aes atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp")
MIXED = PI5.replace(" asimddp", "", 1)
ZEN2 = "flags\t\t: fpu sse4_2 fma f16c avx avx2\nbugs\t\t: sysret_ss_attrs\n"
ALDER = ZEN2.replace("avx2", "avx2 avx_vnni")
PI5_TARGET = {
    "name": "raspberry-pi-5",
    "title": "Raspberry Pi 5",
    "device": {"arch": "aarch64", "features": ["neon", "dotprod", "fp16"]},
}
VNNI = {"name": "pc", "device": {"arch": "x86-64", "features": ["avx2", "avx512-vnni"]}}


@pytest.mark.parametrize(
    ("arch", "text", "found"),
    [
        ("aarch64", PI4, ("neon",)),
        ("aarch64", PI5, ("neon", "dotprod", "fp16")),
        ("aarch64", MIXED, ("neon", "fp16")),  # a thread may run on the core that lacks it
        ("x86-64", ZEN2, ("avx2", "fma", "f16c")),
        ("x86-64", "flags : fpu sse2\n", ()),
        ("x86-64", "nothing of the kind\n", None),
        ("aarch64", ZEN2, None),  # an emulator that shows its host's
        ("riscv64", "isa : rv64imafdc\n", None),
    ],
)
def test_the_features_of_a_processor_are_what_all_its_cores_list(arch, text, found):
    assert features(arch, text) == found


@pytest.mark.parametrize(
    ("said", "arch"), [("x86_64", "x86-64"), ("AMD64", "x86-64"), ("arm64", "aarch64"), ("riscv64", "riscv64")]
)
def test_this_machine_is_called_as_targets_call_it(monkeypatch, tmp_path, said, arch):
    monkeypatch.setattr("platform.machine", lambda: said)
    assert this_machine(tmp_path / "absent") == Machine(arch, None)
    (tmp_path / "cpuinfo").write_text(ALDER if arch == "x86-64" else PI5)
    assert this_machine(tmp_path / "cpuinfo").arch == arch
    assert set(ARCHITECTURES) == {"x86-64", "aarch64"}


@pytest.mark.parametrize(
    ("target", "machine", "found"),
    [
        (PI5_TARGET, Machine("aarch64", ("neon", "dotprod", "fp16")), None),
        (PI5_TARGET, Machine("aarch64", None), None),  # what cannot be known is no reason to refuse
        (PI5_TARGET, Machine("aarch64", ("neon",)), "aarch64 without dotprod, fp16"),
        (PI5_TARGET, Machine("x86-64", ("avx2",)), "x86-64"),
        (VNNI, Machine("x86-64", ("avx2", "avx-vnni")), None),  # the other encoding of the same instructions
        (VNNI, Machine("x86-64", ("avx2",)), "x86-64 without avx512-vnni"),
        ({"name": "x"}, Machine("x86-64"), None),
    ],
)
def test_a_machine_fits_a_target_or_is_told_why_not(target, machine, found):
    assert mismatch(target, machine) == found


def test_a_refusal_says_what_is_wanted_what_is_here_and_what_to_do(tmp_path):
    check_machine(PI5_TARGET, tmp_path, Machine("aarch64"))
    with pytest.raises(ArtifactError, match="made for another machine: raspberry-pi-5") as caught:
        check_machine(PI5_TARGET, tmp_path / "a.gsv", Machine("x86-64", ("avx2",)))
    error = caught.value
    assert error.exit_code == 6
    assert error.problems == ("it wants aarch64 with neon, dotprod, fp16", "this machine is x86-64")
    assert "--any-machine" in str(error)
