import re

import pytest

from gsvexport.cli.targets import markdown_table
from gsvexport.compiler.plan import check, missing_backends
from gsvexport.errors import TargetError
from gsvexport.target.machine import FLAGS
from gsvexport.target.target import CORES, FEATURES, Placement, read_target, read_targets, registry, target_names, tiers

GOOD = """\
title = "A board"

[device]
arch = "aarch64"
core = "cortex-a76"
features = ["dotprod"]
memory_mb = 4096
bandwidth_gbs = 17

[placement.default]
backend = "onnxruntime"
precision = "fp32"
"""


def write(folder, name, text):
    path = folder / f"{name}.toml"
    path.write_text(text)
    return str(path)


def problems(tmp_path, text, name="board"):
    with pytest.raises(TargetError) as caught:
        read_target(write(tmp_path, name, text))
    return caught.value.problems


@pytest.mark.parametrize("name", target_names())
def test_every_profile_of_the_registry_is_right_but_for_backends_that_this_release_lacks(name):
    target = read_target(name)
    assert target.name == name
    assert target.title
    if missing := missing_backends(target):
        with pytest.raises(TargetError) as caught:
            check(target)
        assert caught.value.exit_code == 4
        for problem in caught.value.problems:
            assert re.search(rf"\.toml:\d+: no backend '({'|'.join(missing)})' in this release", problem)
    else:
        check(target)


def test_a_page_shows_the_registry():
    assert markdown_table() in (registry().parent / "docs" / "targets.md").read_text(encoding="utf-8")


def test_the_registry_holds_x86_64_and_hides_families():
    assert "x86-64" in target_names()
    assert list(registry().glob("_*.toml"))
    assert not [name for name in target_names() if name.startswith("_")]
    with pytest.raises(TargetError, match="no target '_onnxruntime'"):
        read_target("_onnxruntime")


def test_a_file_of_ones_own_is_a_target(tmp_path):
    target = read_target(write(tmp_path, "board", GOOD))
    assert (target.name, target.device.core, target.device.features) == ("board", "cortex-a76", ("dotprod",))
    assert target.device.bandwidth_gbs == 17.0
    assert target.place("vocoder") == Placement("onnxruntime", "fp32")


def test_a_profile_extends_one_of_the_registry_and_files_beside_it(tmp_path):
    write(tmp_path, "_quick", '[limits]\ntokens = 100\n[placement.default]\nprecision = "fp16"\n')
    text = 'extends = ["x86-64", "_quick"]\ntitle = "Mine"\n[device]\nmemory_mb = 512\n'
    target = read_target(write(tmp_path, "mine", text))
    assert target.title == "Mine"
    assert (target.device.arch, target.device.memory_mb, target.limits.tokens) == ("x86-64", 512, 100)
    assert target.place("step") == Placement("onnxruntime", "fp16")  # the later name wins, key by key


def test_a_stage_is_placed_by_name_then_by_role_then_by_default(tmp_path):
    text = GOOD + '[placement.ar]\nprecision = "int8-weights"\n[placement.step]\nprecision = "int4-weights"\n'
    target = read_target(write(tmp_path, "board", text))
    found = {stage: target.place(stage).precision for stage in ("prefill", "step", "acoustic")}
    assert found == {"prefill": "int8-weights", "step": "int4-weights", "acoustic": "fp32"}
    assert target.place("step").backend == "onnxruntime"  # what an entry leaves out comes from the default


def test_an_unknown_target_is_answered_with_the_nearest_names():
    with pytest.raises(TargetError, match=r"no target 'x86_64'; did you mean 'x86-64'"):
        read_target("x86_64")
    with pytest.raises(TargetError, match="no target file"):
        read_target("nowhere/board.toml")


def test_a_near_miss_gets_the_right_name_with_file_and_line(tmp_path):
    (found,) = problems(tmp_path, GOOD.replace("memory_mb", "memory_gb"))
    assert found == f"{tmp_path}/board.toml:7: unknown key 'memory_gb' in [device]; did you mean 'memory_mb'?"


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("memory_mb = 4096", 'memory_mb = "4096"', 7, "takes a whole number in MB, not '4096'"),
        ("memory_mb = 4096", "memory_mb = 4", 7, "not between 64 and 4000000 MB: wrong unit?"),
        ("memory_mb = 4096", "memory_mb = true", 7, "takes a whole number"),
        ("bandwidth_gbs = 17", "bandwidth_gbs = 17100000", 8, "not between 0.5 and 20000 GB/s: wrong unit?"),
        ("bandwidth_gbs = 17", "bandwidth_gbs = nan", 8, "takes a finite number"),
        (
            'arch = "aarch64"',
            'arch = "aarch46"',
            4,
            "is one of x86-64, aarch64, wasm32, not 'aarch46'; did you mean 'aarch64'?",
        ),
        ('features = ["dotprod"]', "features = [1]", 6, "holds strings only"),
        ('features = ["dotprod"]', 'features = ["avx2"]', 6, "aarch64 has no feature 'avx2'"),
        ('features = ["dotprod"]', 'features = ["dot-prod"]', 6, "did you mean 'dotprod'?"),
        ('features = ["dotprod"]', 'features = ["i8mm"]', 6, "cortex-a76 has no i8mm; it has neon, dotprod, fp16"),
        ('"cortex-a76"', '"cortex-a67"', 5, "'core' is one of cortex-a35, "),
        ('precision = "fp32"', 'precision = "fp23"', 12, "did you mean 'fp32'"),
        ('precision = "fp32"', 'precision = "int8"', 10, "int8, which needs a [calibration] table"),
        ('title = "A board"', 'titel = "A board"', 1, "unknown key 'titel' at the top level; did you mean 'title'?"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(tmp_path, old, new, line, says):
    assert old in GOOD
    found = problems(tmp_path, GOOD.replace(old, new))
    assert any(item.startswith(f"{tmp_path}/board.toml:{line}: ") and says in item for item in found), found


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ("[limits]\ntokens = 500\nseconds = 10\n", "500 are 20 s of speech, more than limits.seconds = 10"),
        ('[placement.vocodr]\nprecision = "fp32"\n', "unknown key 'vocodr' in [placement]; did you mean 'vocoder'?"),
        ("[gates]\nsnr_db = 'high'\n", "'snr_db' takes a number"),
        ("[device.runtime]\nonnxruntime = '1'\n", "unknown key 'runtime' in [device]; did you mean 'runtimes'?"),
        ("[calibration]\nsentences = 0\n", "[calibration] lacks 'corpus'"),
    ],
)
def test_impossible_combinations_and_tables_are_named(tmp_path, extra, says):
    found = problems(tmp_path, GOOD + extra)
    assert any(says in item and re.match(r".*/board.toml:\d+: ", item) for item in found), found


@pytest.mark.parametrize(
    ("extra", "line", "says"),
    [
        ('[device.gpu]\ncompute_capability = "8,7"', 15, "a compute capability is written as '8.7', not '8,7'"),
        ("[device.gpu]\nmemory_mb = 8192", 14, "[device.gpu] lacks 'compute_capability'"),
        ('[device.gpu]\ncompute_capability = "8.7"\nmemory_mb = 8192', 14, "has both memory_mb and bandwidth_gbs"),
        ('[device.gpu]\ncompute_capabilty = "8.7"', 15, "did you mean 'compute_capability'?"),
        ("[device.tpu]\nsram_mb = 8192", 15, "'sram_mb' = 8192 MB is not between 1 and 64 MB: wrong unit?"),
        ('[device.tpu]\nlink = "usb"', 15, "'link' is one of pcie, usb3, usb2, not 'usb'; did you mean"),
        ('[device.runtimes]\nonnxruntime = "1.23"', 15, "takes versions such as '>=1.23,<2', not '1.23'"),
        ('[device.confidence]\nbandwidth = "read"', 15, "does not give; did you mean 'bandwidth_gbs'?"),
        ('[device.confidence]\ntpu = "read"', 15, "confidence in 'tpu', which [device] does not give"),
        ('[device.confidence]\ncore = "red"', 15, "not 'red'; did you mean 'read'"),
    ],
)
def test_what_a_device_cannot_be_is_named_with_its_line(tmp_path, extra, line, says):
    found = problems(tmp_path, f"{GOOD}\n{extra}\n")
    assert any(item.startswith(f"{tmp_path}/board.toml:{line}: ") and says in item for item in found), found


def test_a_core_of_another_architecture_is_named(tmp_path):
    text = GOOD.replace("aarch64", "x86-64").replace('["dotprod"]', '["avx2"]')
    assert problems(tmp_path, text) == (f"{tmp_path}/board.toml:5: cortex-a76 is aarch64, not x86-64",)
    found = problems(tmp_path, GOOD.replace("aarch64", "x86-64").replace('core = "cortex-a76"\n', ""))
    assert "x86-64 has no feature 'dotprod'" in found[0]


def test_a_graphics_card_and_an_accelerator_are_parts_of_a_device(tmp_path):
    text = GOOD + '[device.gpu]\ncompute_capability = "8.7"\n[device.confidence]\ngpu = "read"\n'
    target = read_target(write(tmp_path, "board", text))
    assert (target.device.gpu.compute_capability, target.device.gpu.memory_mb) == ("8.7", None)
    assert target.to_json()["device"]["gpu"]["compute_capability"] == "8.7"
    tpu = read_target("coral-usb-pi5").device.tpu
    assert (tpu.sram_mb, tpu.link) == (8.0, "usb3")


def test_every_feature_of_a_profile_can_be_found_on_a_machine():
    assert {arch: tuple(table) for arch, table in FLAGS.items()} == FEATURES
    assert all(set(able) <= set(FEATURES[arch]) for arch, able in CORES.values())


def test_an_emulator_has_to_fit_the_device(tmp_path):
    text = 'emulator = "qemu-aarch64"\n' + GOOD.replace('core = "cortex-a76"\n', "").replace("aarch64", "x86-64")
    text = text.replace('["dotprod"]', '["avx2"]')
    found = problems(tmp_path, text)
    assert len(found) == 2
    assert "does not run x86-64" in found[0]
    assert "needs device.core" in found[1]


def test_all_problems_are_reported_at_once_also_those_of_a_family(tmp_path):
    write(tmp_path, "_family", 'portability = "anywhere"\n')
    text = 'extends = "_family"\n' + GOOD.replace("memory_mb = 4096", "memory_mb = 0").replace("core =", "cpu =")
    found = problems(tmp_path, text)
    assert len(found) == 3
    assert any(item.startswith(f"{tmp_path}/_family.toml:1: 'portability' is one of") for item in found)


def test_what_is_missing_is_named(tmp_path):
    found = problems(tmp_path, "[device]\nos = 'linux'\n")
    assert any("'title' is missing" in item for item in found)
    assert any("[device] lacks 'arch'" in item for item in found)
    assert any("[placement] lacks 'default'" in item for item in found)


def test_extends_that_go_round_in_a_circle_or_nowhere(tmp_path):
    write(tmp_path, "_a", 'extends = "_b"\n')
    write(tmp_path, "_b", 'extends = "_a"\n')
    assert any("extends" in item for item in problems(tmp_path, 'extends = "_a"\n' + GOOD))
    (found,) = problems(tmp_path, 'extends = "_onnxruntim"\n' + GOOD)
    assert "board.toml:1:" in found
    assert "did you mean '_onnxruntime'" in found
    (found,) = problems(tmp_path, "extends = 3\n" + GOOD)
    assert "takes a name or a list of names" in found


def test_text_that_is_not_toml_names_the_place(tmp_path):
    with pytest.raises(TargetError, match=r"board\.toml cannot be read as TOML: .*line 2"):
        read_target(write(tmp_path, "board", 'title = "x"\n[device\n'))


def test_gates_may_be_for_every_stage_or_for_one(tmp_path):
    text = GOOD + "[gates]\nsnr_db = 60\n[gates.vocoder]\nsnr_db = 50.5\n"
    assert read_target(write(tmp_path, "board", text)).gates == {"snr_db": 60.0, "vocoder.snr_db": 50.5}


def test_what_no_backend_can_do_is_named_with_its_line(tmp_path):
    text = (
        GOOD.replace("onnxruntime", "onnxruntim")
        + '[placement.vocoder]\nbackend = "onnxruntime"\nprecision = "int4-weights"\n'
    )
    text = 'portability = "build_on_device"\n' + text + "[gates]\nsnr_bd = 3\n"
    with pytest.raises(TargetError) as caught:
        check(read_target(write(tmp_path, "board", text)))
    found = caught.value.problems
    assert any(
        "board.toml:12: no backend 'onnxruntim' in this release; did you mean 'onnxruntime'?" in item for item in found
    )
    assert any("board.toml:16: backend onnxruntime cannot lower 'vocoder' to int4-weights" in item for item in found)
    assert any("board.toml:1: portability is build_on_device" in item for item in found)
    assert any("board.toml:18: gate 'snr_bd': no metric 'snr_bd'" in item for item in found)


def test_several_targets_report_everything_and_come_once(tmp_path):
    path = write(tmp_path, "board", GOOD)
    assert [target.name for target in read_targets(["x86-64", path, "x86-64"])] == ["x86-64", "board"]
    with pytest.raises(TargetError) as caught:
        read_targets(["nope", "nada"])
    assert len(caught.value.problems) == 2
    (tmp_path / "other").mkdir()
    with pytest.raises(TargetError, match="two different targets are called 'board'"):
        read_targets([path, write(tmp_path / "other", "board", GOOD.replace("4096", "2048"))])


def test_the_digest_follows_the_content_and_not_the_place(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    here = read_target(write(tmp_path, "board", GOOD))
    there = read_target(write(tmp_path / "elsewhere", "board", "# the same\n" + GOOD))
    other = read_target(write(tmp_path / "elsewhere", "board", GOOD.replace("4096", "2048")))
    assert here == there
    assert here.digest == there.digest != other.digest


def test_a_tier_goes_before_what_the_device_says():
    target = read_target("raspberry-pi-5+mobile+t2s-int4")
    assert target.name == "raspberry-pi-5-mobile-t2s-int4"
    assert target.title.endswith("; INT8, smallest; 4-bit T2S weights")
    assert target.device == read_target("raspberry-pi-5").device
    assert target.place("step").precision == "int4-weights"
    assert target.place("vocoder").precision == "int8"


@pytest.mark.parametrize("tier", tiers())
@pytest.mark.parametrize("device", ["x86-64", "x86-64-int8", "raspberry-pi-5", "apple-silicon", "graviton3"])
def test_a_processor_takes_every_tier(device, tier):
    check(read_target(f"{device}+{tier}"))


def test_a_tier_that_an_accelerator_cannot_take_is_refused_with_the_reason():
    with pytest.raises(TargetError) as caught:
        check(read_target("jetson-orin+mobile"))
    assert "backend tensorrt cannot lower" in str(caught.value)
    assert "_mobile.toml" in str(caught.value)
    check(read_target("jetson-orin+broadcast"))
    check(read_target("jetson-orin+saas"))


def test_an_unknown_tier_names_the_nearest():
    with pytest.raises(TargetError, match="did you mean 'mobile'"):
        read_target("x86-64+mobil")
    with pytest.raises(TargetError, match="no tier 'one-gigabyte'"):  # a family that is no tier
        read_target("x86-64+one-gigabyte")
