from __future__ import annotations

import re
from pathlib import Path

from zeroloss_export.training.zlp.report import summary, write_report
from zeroloss_export.training.zlp.training import TrainedZeroLoss


def test_a_summary_tells_what_was_found(
    trained_flake: TrainedZeroLoss, trained_vacuum: TrainedZeroLoss
) -> None:
    for trained in (trained_flake, trained_vacuum):
        text = "\n".join(summary(trained))
        kept = trained.ensemble.kept
        assert f"replicas: {kept.sum()} of {len(kept)} converged" in text
        assert f"against the measured means: {trained.ensemble.chi2:.2f}" in text
        assert text.count("zero loss rules up to") == len(trained.spectra.clusters)
        assert f"variance {trained.spectra.noise.gain:.2f} x counts" in text
        assert "nan" not in text


def test_a_page_shows_its_plots(trained_flake: TrainedZeroLoss, tmp_path: Path) -> None:
    page = write_report(tmp_path / "report", trained_flake)
    text = page.read_text(encoding="utf-8")
    names = re.findall(r"\]\((\w+\.png)\)", text)
    assert names == ["fit.png", "band.png", "cost.png"]
    for name in names:
        assert (page.parent / name).read_bytes().startswith(b"\x89PNG")
    for line in summary(trained_flake):
        assert line in text
