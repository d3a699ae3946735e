"""A real Kubernetes for tests, built from source: `ControlPlane`, `Node` on top of it, and `Kwok` that plays nodes."""
