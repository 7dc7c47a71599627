"""Training that starts from a model: its weights for other elements, other reference energies, and replay."""
