"""The stages of a distillation, one module each, and what they have in common."""
