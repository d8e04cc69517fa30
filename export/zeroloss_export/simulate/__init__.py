"""Simulated spectra: compositions, edges, low loss, background, detector, labels."""
