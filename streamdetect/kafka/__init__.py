"""Plain Kafka clients: security, topics, outbox, follower. No Faust, no numpy."""
