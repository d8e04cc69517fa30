"""Short scripts to begin with; run them with `python -m zeroloss_clients.examples.<name>`."""
