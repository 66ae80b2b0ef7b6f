"""`bert`: BERT (Devlin et al. 2019) in the layout of Hugging Face's `BertModel`, up to the state that upstream uses."""

from __future__ import annotations

import onnx_ir as ir

from gsvexport.graphs.builder import GraphBuilder
from gsvexport.graphs.hubert import encoder_layer, norm_last
from gsvexport.graphs.layers import Tensors, length, plain, swap
from gsvexport.voice.pretrained import BertDims


def bert(g: GraphBuilder, t: Tensors, dims: BertDims) -> ir.Model:
    """input_ids [1, C+2] → features [1, 1024, C]: hidden_states[-3] without the first and the last token."""
    ids = g.inputs["input_ids"]
    with g.scope("embed"):
        table = t / "embeddings"
        x = g.Gather(plain(g, table, "word_embeddings.weight"), ids, axis=0)
        # every token is of the first sentence
        x = g.Add(x, g.weight(t.name("embeddings.first"), lambda: table.get("token_type_embeddings.weight")[:1]))
        positions = plain(g, table, "position_embeddings.weight")
        x = g.Add(x, g.Slice(positions, g.ints(0), length(g, ids, 1), g.ints(0)))
        x = norm_last(g, table / "LayerNorm", x, dims.epsilon)
    for index in range(dims.layers):
        with g.scope(f"layer{index}"):
            layer = t / f"encoder.layer.{index}"
            names = ("self.query", "self.key", "self.value", "output.dense")
            x = encoder_layer(
                g,
                dims,
                x,
                heads=[layer / f"attention.{name}" for name in names],
                widening=[layer / "intermediate.dense", layer / "output.dense"],
                norms=[layer / "attention.output.LayerNorm", layer / "output.LayerNorm"],
            )
    return g.model({"features": swap(g, g.Slice(x, g.ints(1), g.ints(-1), g.ints(1)))})
