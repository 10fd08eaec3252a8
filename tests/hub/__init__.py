"""Models of the Hub, against a server on loopback that speaks its protocol. No test needs another network."""
