"""Which recipe was it, and how good: every merge, check, evaluation and sweep point as a row of one file."""
