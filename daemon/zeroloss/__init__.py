"""zeroloss: live element maps and zero-loss-peak subtraction beside the microscope."""

__version__ = "0.1.0"
