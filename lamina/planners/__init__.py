"""From a request to a Plan, by headers alone."""
