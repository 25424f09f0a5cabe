"""What runs a model's file: one module for each kind, and the table that chooses by name."""
