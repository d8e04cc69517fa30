"""Scores on simulated and measured spectra, scans, and the model card."""
