"""What an output tensor is made of: nested plain data, and what can be asked of it."""
