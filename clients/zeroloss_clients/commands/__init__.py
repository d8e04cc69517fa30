"""The client commands of `zeroloss`: demo, microscope, replay, watch."""
