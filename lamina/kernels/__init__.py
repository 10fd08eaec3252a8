"""Array operations on blocks: one small interface, and implementations that agree to the bit."""
