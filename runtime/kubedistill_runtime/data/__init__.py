"""Questions, traces, and where they are kept."""
