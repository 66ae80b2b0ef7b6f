"""Profiles beside the inputs that they are for: what a builder would refuse is found where it was made."""

import pytest

from gsvexport.backends.tensorrt import recipe
from gsvexport.backends.tensorrt.covered import gaps
from gsvexport.backends.tensorrt.recipe import Profile

INPUTS = {"ids": [1, "S"], "bert": [1, 1024, "S"], "ge": [1, 512, 1], "loose": [None]}
GOOD = {
    "ids": ((1, 1), (1, 4), (1, 9)),
    "bert": ((1, 1024, 1), (1, 1024, 4), (1, 1024, 9)),
    "loose": ((1,), (2,), (3,)),
}


def test_profiles_that_give_every_open_length_are_fine():
    assert gaps(INPUTS, [Profile("a", GOOD), Profile("b", {**GOOD, "ge": ((1, 512, 1),) * 3})]) == []
    assert gaps({"ge": [1, 512, 1]}, []) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"bert": None}, "profile p does not name bert"),
        ({"loose": None}, "profile p does not name loose"),
        ({"row": ((1,), (1,), (1,))}, "profile p names row, which is no input"),
        ({"ids": ((1,), (4,), (9,))}, "ids: (1,), (4,), (9,) instead of 2 dimensions"),
        ({"ge": ((1, 256, 1),) * 3}, "ge: dimension 1 is 256, 256, 256; the graph has 512"),
        ({"loose": ((3,), (2,), (1,))}, "loose: dimension 0 is 3, 2, 1; the graph has None"),
        ({"loose": ((-1,), (2,), (3,))}, "loose: dimension 0 is -1, 2, 3"),
        ({"ids": ((1, 1), (1, 5), (1, 9))}, "the usual S is 4 in bert, 5 in ids"),
        ({"ids": ((1, 1), (1, 4), (1, 8))}, "the largest S is 8 in ids, 9 in bert"),
    ],
)
def test_each_fault_of_a_profile_is_told(change, text):
    shapes = {name: shape for name, shape in {**GOOD, **change}.items() if shape is not None}
    found = gaps(INPUTS, [Profile("a", GOOD), Profile("p", shapes)])
    assert len(found) == 1, found
    assert text in found[0]


def test_no_profile_at_all_names_what_is_open():
    assert gaps(INPUTS, []) == ["no profile, but bert, ids, loose is dynamic"]


def test_no_trtexec_line_has_a_ceiling_that_graphs_pass():
    engine = recipe.Engine("v", (), "v.onnx", "", (Profile("a", GOOD),), (), {}, 1.0)
    [line] = recipe.trtexec(engine).values()
    assert "memPoolSize" not in line
    assert "--maxShapes=ids:1x9,bert:1x1024x9,loose:3" in line
