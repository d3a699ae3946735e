"""What a job will take before anything starts: memory, tokens, time. Pure but for reading a model's config.json."""
