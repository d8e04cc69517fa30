"""The simulation of Annys, Jannis and Verbeeck, Sci. Rep. 13, 13724 (2023), Table 1.

What differs is said where it is done: cross sections are this project's own, formulas are drawn by
its own generator (the paper draws them from the Materials Project), and where the paper leaves
something open the module says how it is filled.
"""

from zeroloss_export.simulate.paper.recipe import PaperRecipe
from zeroloss_export.simulate.paper.simulator import PaperSimulator, PaperSpectra

__all__ = ["PaperRecipe", "PaperSimulator", "PaperSpectra"]
