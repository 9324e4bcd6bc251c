"""What accounts share: subnet, org, API key, payment, content keys."""
