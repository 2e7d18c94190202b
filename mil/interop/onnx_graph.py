"""Graph of a trained head in ONNX: features of a bag to predictions and attention.

The graph holds what the references of `mil.kernels` compute, in plain operators. It is
traced by `torch.export`, so that the number of tiles stays open.
"""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from mil.bags import Bags, attention
from mil.errors import ConfigError, brief
from mil.kernels.dispatch import reference_alone
from mil.trained.forward import branch_attention, predictions
from mil.trained.pooled import pooled_output
from mil.trained.record import Trained

if TYPE_CHECKING:
    from onnx import ModelProto

# The set of operators that every release of torch from 2.6 on writes, and that ONNX
# Runtime has read since 1.14.
OPSET = 18
INPUT = "features"
TILES = "tiles"
# A bag of one tile would be traced as such.
TRACED_TILES = 7
# Without a limit torch 2.6 takes slices for a condition on the number of tiles.
MAX_TILES = 2**31 - 1


class OnnxHead(nn.Module):
    """Head as the graph has it: features [tiles, dim] of one bag to its named outputs.

    Args:
        head: Head that follows `mil.heads.Streams`, in evaluation mode.
        trained: Record of the head.
    """

    def __init__(self, head: nn.Module, trained: Trained) -> None:
        super().__init__()
        self.head = head
        self.trained = trained

    def forward(self, features: Float[Tensor, "tiles dim"]) -> dict[str, Tensor]:
        """Logits [outputs], predictions [columns], attention [tiles], that by branch or class."""
        # Not `torch.tensor`, which would make the number of tiles a constant.
        offsets = torch.arange(2) * features.shape[0]
        bags = Bags(features, offsets)
        output = pooled_output(self.head, bags)
        outputs = {
            "logits": output.logits[0],
            "predictions": predictions(self.trained, output.logits)[0],
            "attention": attention(output, bags, self.trained.task.attended),
        }
        by_branch = branch_attention(output, bags)
        if by_branch is not None:
            outputs["branch_attention"] = by_branch
        return outputs


def to_onnx(model: OnnxHead, folder: Path) -> "ModelProto":
    """Trace a head.

    Args:
        model: Head to trace.
        folder: Folder of the head, for messages.

    Raises:
        ConfigError: The head cannot be traced, such as one of another package.
    """
    example = torch.randn(
        TRACED_TILES, model.trained.dim, generator=torch.Generator().manual_seed(0)
    )
    with reference_alone(), torch.no_grad(), warnings.catch_warnings():
        # Of torch's own parts, about one another.
        warnings.simplefilter("ignore")
        try:
            names = list(model(example))
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=names,
                dynamic_shapes={INPUT: {0: torch.export.Dim(TILES, min=1, max=MAX_TILES)}},
                external_data=False,
                optimize=True,
                verbose=False,
            )
        except Exception as error:
            reason = brief(f"{type(error).__name__}: {error}")
            raise ConfigError(
                f"{folder}: head {model.trained.recipe.name} cannot be traced for ONNX: {reason}"
            ) from error
    assert program is not None
    proto = program.model_proto
    _check_form(proto, folder)
    _remove_traces(proto)
    _name_tiles(proto)
    return proto


def run_onnx(proto: "ModelProto", features: Float[np.ndarray, "tiles dim"]) -> dict[str, Any]:
    """Outputs of a graph by ONNX's own reference, by name."""
    from onnx.reference import ReferenceEvaluator

    outputs = ReferenceEvaluator(proto).run(None, {INPUT: features})
    names = [output.name for output in proto.graph.output]
    return dict(zip(names, outputs, strict=True))


def _check_form(proto: "ModelProto", folder: Path) -> None:
    """Refuse a graph for one number of tiles, or with operators that few programs know."""
    # An exporter that fails with an open axis tries again with a fixed one.
    if not _first_axis(proto).dim_param:
        raise ConfigError(
            f"{folder}: torch {torch.__version__} writes an ONNX graph for {TRACED_TILES} tiles "
            "alone; use a newer release of torch"
        )
    stated = {entry.domain: entry.version for entry in proto.opset_import}
    if stated != {"": OPSET}:
        raise ConfigError(
            f"{folder}: torch {torch.__version__} writes ONNX operators {stated}, not those of "
            f"version {OPSET} alone; use another release of torch and onnxscript"
        )


def _remove_traces(proto: "ModelProto") -> None:
    """Remove traces of the code that was traced, which name files of this machine."""
    graph = proto.graph
    described = [*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for part in (proto, graph, *described):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def _name_tiles(proto: "ModelProto") -> None:
    """Call the open axis `tiles`: torch 2.6 gives it a name of its own."""
    graph = proto.graph
    name = _first_axis(proto).dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param == name:
                axis.dim_param = TILES


def _first_axis(proto: "ModelProto") -> Any:
    return proto.graph.input[0].type.tensor_type.shape.dim[0]
