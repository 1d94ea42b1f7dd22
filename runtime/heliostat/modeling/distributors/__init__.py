"""Estimators that train on several workers at once, one module per library."""
