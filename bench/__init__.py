"""Measures the operator on a control plane without nodes: ``python -m bench``."""
