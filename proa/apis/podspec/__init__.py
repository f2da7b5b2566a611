"""What pods and pod templates have in common: defaults, validation, warnings, update rules of a PodSpec."""
