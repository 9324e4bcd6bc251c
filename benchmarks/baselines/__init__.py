"""Other ways to find campaigns, to hold the product against: velocity, addresses, pair LSH, co-sharing, pooled MMD.

Each is written from its published description, decides on the same columns in the same rounds as the product, and is
graded by the same grader. They share no detection code with the product: only decoding, the text normaliser and the
MinHash kernel, whose equality with datasketch is tested. Parameters stand in ``thresholds.toml``.
"""
