"""Names that stand in files: none of them leads out of the folder that it is looked up in, and no link is followed."""

import os
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest
from artifacts import copied, entry, repacked, resealed

from gsvexport import cli
from gsvexport.artifact import container
from gsvexport.compiler.source import open_source
from gsvexport.errors import ArtifactError
from gsvexport.model import read_model
from gsvexport.runtime.pipeline import load
from gsvexport.untrusted.external import check_external
from gsvexport.untrusted.reading import Refused, inside, safe_name

ODD = ("../pwned.txt", "/etc/passwd", "a/../../b", "a//b", "", ".", "..", ".hidden", "a\\b", "C:x", "a\0b", "a/", "con")
ODD += ("nul.txt", "x" * 201, "ä.txt", "a b", "a\nb", "golden/COM1.npy", None, 3)


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_a_name_that_could_lead_elsewhere_is_none(name, tmp_path):
    assert not safe_name(name)
    with pytest.raises(Refused, match="no name inside a folder"):
        inside(tmp_path, name)


def test_links_are_not_followed_wherever_they_stand_in_a_name(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").write_text("x")
    (tmp_path / "folder").symlink_to(tmp_path / "real")
    (tmp_path / "file").symlink_to(tmp_path / "real" / "a")
    assert inside(tmp_path, "real/a").read_text() == "x"
    for name in ("folder/a", "file"):
        with pytest.raises(Refused, match="is a link"):
            inside(tmp_path, name)


@pytest.mark.parametrize("name", ["../pwned.txt", "sub/../../pwned.txt", "/tmp/pwned.txt"])
def test_bake_writes_nothing_outside_of_its_output(subject, tmp_path, capsys, name):
    source = copied(subject.source, tmp_path / "source")
    (tmp_path / "pwned.txt").write_text("owned")
    resealed(source, lambda meta: meta["files"].update({name: entry(tmp_path / "pwned.txt")}))
    (tmp_path / "victim").mkdir()
    arguments = [
        "bake",
        source,
        "--reference",
        subject.voice / "reference.wav",
        "-o",
        tmp_path / "victim" / "sub" / "out",
    ]
    assert cli.run([str(one) for one in arguments]) == 6
    assert "no name inside a folder" in capsys.readouterr().err
    assert not list((tmp_path / "victim").rglob("*"))


@pytest.mark.parametrize("linked", ["weights.safetensors", "vocoder.onnx", "model.json", "baked", "baked/ge.npy"])
def test_a_source_with_a_link_is_refused(subject, tmp_path, linked):
    source = copied(subject.source, tmp_path / "source")
    shutil.move(source / linked, tmp_path / "moved")
    (source / linked).symlink_to(tmp_path / "moved")
    with pytest.raises(ArtifactError, match="is a link"):
        open_source(source)


@pytest.mark.parametrize("linked", ["weights.safetensors", "prefill.onnx", "model.json", "baked/ge.npy", "golden"])
def test_an_unpacked_artifact_with_a_link_is_refused(subject, tmp_path, linked, capsys):
    files = copied(subject.files, tmp_path / "files")
    shutil.move(files / linked, tmp_path / "moved")
    (files / linked).symlink_to(tmp_path / "moved")
    assert cli.run(["verify", str(files), "-q"]) == 6
    assert "defect" not in capsys.readouterr().err


def test_a_source_uses_no_file_that_it_does_not_list(subject, tmp_path):
    source = copied(subject.source, tmp_path / "source")
    resealed(source, lambda meta: meta["files"].pop("baked/ge.npy"))
    with pytest.raises(ArtifactError, match="used and not listed"):
        open_source(source)


@pytest.mark.parametrize("key", ["files", "baked", "vocabulary"])
@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "baked/../../x", ""])
def test_a_model_description_names_no_file_elsewhere(subject, tmp_path, edit, key, name):
    files = copied(subject.files, tmp_path / "files")

    def change(value):
        value[key] = name if key == "vocabulary" else {**value[key], next(iter(value[key])): name}

    edit(files / "model.json", change)
    if key == "vocabulary" and not name:
        assert read_model(files).vocabulary == ""  # as none
        return
    with pytest.raises(ArtifactError, match="leads out of the folder"):
        read_model(files)


def test_golden_vectors_name_no_file_elsewhere(subject, tmp_path, edit, capsys):
    files = copied(subject.files, tmp_path / "files")
    np.save(tmp_path / "outside.npy", np.zeros(3))
    edit(files / "golden" / "golden.json", lambda value: value["files"].update({"../../outside.npy": {
        "sha256": entry(tmp_path / "outside.npy")["sha256"], "size": 1}}))  # fmt: skip
    assert cli.run(["verify", str(repacked(files, tmp_path / "a.gsv")), "-q"]) == 6
    assert "no name inside a folder" in capsys.readouterr().err


def graph_with(location, **told):
    """A graph of one weight whose bytes lie at `location`."""
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[2], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": "0", "length": "8", **told}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


@pytest.mark.parametrize("where", ["initializer", "attribute", "subgraph", "function"])
def test_bytes_of_a_file_outside_are_refused_wherever_a_graph_names_them(tmp_path, where):
    (tmp_path / "secret").write_bytes(b"12345678")
    folder = tmp_path / "graph"
    folder.mkdir()
    tensor = graph_with("../secret")
    value = onnx.helper.make_tensor_value_info("y", 1, [2])
    constant = onnx.helper.make_node("Constant", [], ["y"], value=tensor)
    graph = onnx.GraphProto(name="g", output=[value])
    model = onnx.ModelProto(ir_version=9, graph=graph, opset_import=[onnx.helper.make_opsetid("", 18)])
    if where == "initializer":
        model.graph.initializer.append(tensor)
    elif where == "attribute":
        model.graph.node.append(constant)
    elif where == "subgraph":
        inner = onnx.GraphProto(name="inner", node=[constant], output=[value])
        node = onnx.NodeProto(op_type="If", input=["c"], output=["y"])
        node.attribute.append(onnx.helper.make_attribute("then_branch", inner))
        model.graph.node.append(node)
    else:
        model.functions.add(name="f", domain="d").node.append(constant)
    (folder / "step.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(Refused, match="no name inside a folder"):
        check_external(folder / "step.onnx")
    from gsvexport.backends import open_session

    with pytest.raises(ArtifactError, match="no name inside a folder"):
        open_session("onnxruntime", folder, "step.onnx")


@pytest.mark.parametrize(
    ("location", "told"),
    [("*/_ORT_MEM_ADDR_/*", {}), ("w", {"offset": "-8"}), ("w", {"length": "9"}), ("w", {"offset": "1e3"}), ("l", {})],
)
def test_bytes_that_are_not_there_are_refused(tmp_path, location, told):
    (tmp_path / "w").write_bytes(b"12345678")
    (tmp_path / "l").symlink_to("w")
    model = onnx.ModelProto(graph=onnx.GraphProto(name="g", initializer=[graph_with(location, **told)]))
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(Refused):
        check_external(tmp_path / "a.onnx")


def test_every_graph_of_a_source_passes(subject):
    for path in subject.source.glob("*.onnx"):
        check_external(path)


def test_the_subject_speaks(subject):
    with load(subject.artifact) as voice:
        assert voice.synthesize(phones=[3, 4, 5, 6], seed=1, max_tokens=20).samples.any()


def test_a_name_in_a_manifest_does_not_lead_elsewhere_either(subject, tmp_path):
    manifest = container.read_manifest(subject.artifact)
    member = manifest.members["model.json"]
    for name in ("../x", "/x", "a/../x", "aux", "a\\x"):
        with pytest.raises(ArtifactError, match="not a name that a member may have"):
            container.assemble(
                replace(manifest, members={**manifest.members, name: member}), lambda _: b"", tmp_path / "a.gsv"
            )
    assert not os.listdir(tmp_path)
