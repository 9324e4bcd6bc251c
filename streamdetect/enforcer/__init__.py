"""The far end of the enforcement topic: what a gateway needs, and nothing of the detector."""
