"""Training on spectra that are simulated as they are needed."""
