"""The YAML as values: read, checked for form, and never changed. Knows no models' contents."""
