from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from zeroloss_export.onnx_graph import export_graph, onnx_runner, trace_graph


class Small(nn.Module):
    """The largest count of every spectrum, of its neighbour, and where it is."""

    def forward(
        self, counts: Tensor, offset_ev: Tensor, scale_ev: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        held = torch.where(torch.isnan(counts), 0.0, counts)
        place = held.argmax(1, keepdim=True).int()
        padded = nn.functional.pad(held, (0, 1))
        beside = padded.gather(1, place + 1)[:, 0]
        return held.amax(1), beside, offset_ev + scale_ev * place[:, 0]


OUTPUTS = ("largest", "beside", "position_ev")


@pytest.mark.parametrize("export", [export_graph, trace_graph])
def test_a_graph_answers_as_torch_does_at_other_sizes(
    export: Callable[..., None], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    export(Small(), path, OUTPUTS)
    run = onnx_runner(path, OUTPUTS)
    rng = torch.Generator().manual_seed(1)
    for batch, channels in ((1, 40), (7, 513)):
        counts = torch.randn(batch, channels, generator=rng)
        counts[:, 5] = torch.nan
        inputs = counts, torch.linspace(0.0, 9.0, batch), torch.full((batch,), 0.25)
        for expected, found in zip(Small()(*inputs), run(*inputs), strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("export", [export_graph, trace_graph])
def test_a_graph_takes_the_cheaper_operators(export: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    export(Small(), path, OUTPUTS)
    operators = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert operators["ThresholdedRelu"] == 1
    assert operators["IsNaN"] == operators["Where"] == 0


def test_a_file_says_nothing_of_the_machine_it_was_made_on(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    trace_graph(Small(), path, OUTPUTS)
    content = path.read_bytes()
    assert str(Path(__file__).parent.parent).encode() not in content
    assert b".py" not in content
