"""``streamdetect demo``: a hidden campaign is found and stopped, on a Kafka of its own, told as it happens."""
