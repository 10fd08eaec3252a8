"""Black-box acceptance tests: written from the specification, they meet Lamina only through its API and its command."""
