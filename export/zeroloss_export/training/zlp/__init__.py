"""Zero-loss peaks by Monte Carlo replicas: from measured spectra to a table with error bands."""
