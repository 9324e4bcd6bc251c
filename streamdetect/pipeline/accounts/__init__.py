"""What one account does: windows, tier, own prompts, seen ids."""
