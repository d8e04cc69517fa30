"""The six networks that Annys, Jannis and Verbeeck compare, at their sizes.

A. Annys, D. Jannis and J. Verbeeck, Deep learning for automated materials characterisation in
core-loss electron energy loss spectroscopy, Sci. Rep. 13, 13724 (2023), Table 2. Every module says
what it takes from the paper and how it fills what the paper leaves open; layer widths are those of
the networks that the authors published with it. The sigmoid is outside, as for every network here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from torch import nn

from zeroloss_export.networks.paper.cct import PaperCct
from zeroloss_export.networks.paper.cnn import PaperCnn
from zeroloss_export.networks.paper.mlp import PaperMlp
from zeroloss_export.networks.paper.resnet import PaperResnet
from zeroloss_export.networks.paper.unet import PaperUnet
from zeroloss_export.networks.paper.vit import PaperVit

PAPER: Final[dict[str, Callable[[], nn.Module]]] = {
    "paper_mlp": PaperMlp,
    "paper_cnn": PaperCnn,
    "paper_unet": PaperUnet,
    "paper_resnet": PaperResnet,
    "paper_vit": PaperVit,
    "paper_cct": PaperCct,
}

PAPER_ENSEMBLE: Final = ("paper_vit", "paper_vit", "paper_unet", "paper_unet", "paper_unet")
"""The members of the paper's ensemble (Table 3)."""
