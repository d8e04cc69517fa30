"""Core-loss physics from first principles: edges, atoms, oscillator strengths, cross sections.

``edges`` and ``elements`` list what can be seen; ``atom``, ``continuum`` and ``gos`` solve for it;
``table`` holds the shipped result, ``cross_section`` turns it into spectra for a microscope's beam
and angles, and ``cross_section_table`` does so quickly.
"""
