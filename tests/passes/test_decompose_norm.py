import numpy as np
import pytest
from passes.graphs import graph, normal, operators, run

from gsvexport.errors import PassError
from gsvexport.passes.base import run_passes
from gsvexport.passes.decompose_norm import DecomposeNorm


def norm(axis, shift):
    inputs = ["x", "gain", "shift"] if shift else ["x", "gain"]
    weights = {"gain": normal(16), "shift": normal(16, seed=1)} if shift else {"gain": normal(16)}
    nodes = [("LayerNormalization", inputs, ["y"], {"axis": axis, "epsilon": 1e-5})]
    return graph(nodes, {"x": [1, 5, 16]}, {"y": [1, 5, 16]}, weights)


@pytest.mark.parametrize("shift", [True, False])
def test_the_parts_give_what_the_operator_gives(shift):
    before = norm(-1, shift)
    after = run_passes(before, [DecomposeNorm()]).model
    assert "LayerNormalization" not in operators(after)
    feeds = {"x": normal(1, 5, 16, seed=2) * 30 + 7}
    np.testing.assert_allclose(run(after, feeds)["y"], run(before, feeds)["y"], atol=1e-5)


def test_a_norm_over_several_axes_is_refused():
    with pytest.raises(PassError, match="normalises axis 1"):
        run_passes(norm(1, False), [DecomposeNorm()])
