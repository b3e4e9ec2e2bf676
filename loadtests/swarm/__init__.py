"""The control plane: Locust master and agents, shares, leases, snapshots."""
