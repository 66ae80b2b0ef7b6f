"""The words of proof: one table, and everybody has them from it."""

import json
import re
from pathlib import Path

from gsvexport.artifact.proof import Proof, told
from gsvexport.backends import declared, names

ROOT = Path(__file__).parents[2]


def test_the_strongest_comes_first():
    assert [one.rank for one in Proof] == [0, 1, 2, 3, 4, 5]
    rungs = {"vocoder": Proof.EMULATED, "step": Proof.RUNTIME, "prefill": Proof.RUNTIME}
    assert told(rungs) == (
        "step, prefill ran in the real runtime; vocoder ran as compiled bytes in the vendor's emulation"
    )
    assert told({}) == ""


def test_the_page_and_the_schema_have_these_words_in_this_order():
    page = (ROOT / "docs" / "proof.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \*\*(.+?)\*\* \|", page, re.MULTILINE) == [one.value for one in Proof]
    schema = json.loads((ROOT / "gsvexport" / "data" / "report.schema.json").read_text(encoding="utf-8"))
    assert "; ".join(one.value for one in Proof) in schema["properties"]["proof"]["description"]


def test_no_backend_claims_the_device():
    assert {name: declared(name).proof for name in names()} == {
        "coreml": Proof.RUNTIME,  # on a Mac; nothing has run elsewhere
        "onnxruntime": Proof.RUNTIME,
        "qnn": Proof.EMULATED,
        "rknn": Proof.SIMULATED,
        "tensorrt": Proof.RUNTIME,
        "tflite": Proof.RUNTIME,
        "web": Proof.RUNTIME,
    }
