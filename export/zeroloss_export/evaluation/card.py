"""The model card: what a network is, how it was trained, and how right it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zeroloss_export.evaluation.metrics import Scores


@dataclass(slots=True)
class Card:
    """Collected figures; ``write`` makes a JSON file or a Markdown page of them."""

    title: str
    members: list[str]
    threshold: float
    scores: dict[str, Scores] = field(default_factory=dict)
    scans: dict[str, dict[str, float]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        return {
            "title": self.title,
            "members": self.members,
            "threshold": self.threshold,
            "scores": {name: value.as_dict() for name, value in self.scores.items()},
            "scans": self.scans,
            "wrong": self.wrong,
        }

    def as_markdown(self) -> str:
        lines = [f"# {self.title}", ""]
        lines += [f"- member: {member}" for member in self.members]
        lines += [f"- threshold: {self.threshold:.2f}", ""]
        lines += ["| spectra | F1 | precision | recall | exact match | RMSE |"]
        lines += ["|---|---|---|---|---|---|"]
        for name, value in self.scores.items():
            figures = " | ".join(f"{figure:.3f}" for figure in value.as_dict().values())
            lines.append(f"| {name} | {figures} |")
        lines += ["", "F1, precision and recall are weighted by how often each element occurs."]
        if self.scans:
            lines += ["", "| scan | share of pixels above the threshold |", "|---|---|"]
            lines += [f"| {name} | {_shares(shares)} |" for name, shares in self.scans.items()]
        if self.wrong:
            lines += ["", "Not an exact match:", ""]
            lines += [f"- {line}" for line in self.wrong]
        return "\n".join(lines) + "\n"

    def write(self, path: Path) -> None:
        """JSON for a name that ends in .json, else Markdown."""
        as_json = path.suffix == ".json"
        text = json.dumps(self.as_dict(), indent=2) + "\n" if as_json else self.as_markdown()
        path.write_text(text, encoding="utf-8")


def _shares(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{element} {share:.2f}" for element, share in shares.items()) or "none"
