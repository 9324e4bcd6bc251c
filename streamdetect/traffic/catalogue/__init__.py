"""The scenarios, as data: campaigns, honest look-alikes, and the population around them."""
