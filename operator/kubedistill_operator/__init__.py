"""The control plane: reconciles kubedistill resources on Kubernetes."""
