"""Scoring models: a small forward pass, and questions with one right answer."""
