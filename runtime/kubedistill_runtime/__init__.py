"""The data plane: the stages of a distillation and the command that runs them on one machine."""
