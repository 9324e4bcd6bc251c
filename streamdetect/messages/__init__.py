"""Every record outsiders see, one file a topic. pydantic only."""
