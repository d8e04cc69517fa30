"""The low loss inside a graph: zero-loss peak, thickness, band gap, plasmons, dielectric function.

Every module is a torch module or a function on tensors [batch, channel] that exports to ONNX with
open batch and channel sizes. Nothing is shared between the spectra of a batch.
"""
