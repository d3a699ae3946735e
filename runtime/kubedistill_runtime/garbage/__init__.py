"""Which stages' folders nobody needs any more, and how they go."""
