"""One page about a merge, or about several side by side: it is read offline, and holds all that it shows."""
