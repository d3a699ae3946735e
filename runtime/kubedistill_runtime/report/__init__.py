"""What a finished resource tells people: one HTML page, and the model card."""
