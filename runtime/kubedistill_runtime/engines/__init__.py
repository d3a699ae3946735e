"""What draws responses: vLLM in Ray actors, or an OpenAI-compatible endpoint."""
