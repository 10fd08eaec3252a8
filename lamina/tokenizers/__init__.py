"""Which token a row stands for, and how a chat is written: read off a model's small files, without a tokenizer."""
