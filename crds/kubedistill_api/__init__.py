"""The API of kubedistill: resources, the stage contract, and the pure core (plan and reconcile)."""

__version__ = "0.1.0"
