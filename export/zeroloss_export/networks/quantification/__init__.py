"""Quantification by a fit of cross sections to the whole core-loss spectrum."""
