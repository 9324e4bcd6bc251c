"""A Kafka on this machine, for tests and demonstrations, by the strongest tier that is present.

``cluster.start_cluster`` is the entry; ``python -m streamdetect.sandbox`` runs one in the foreground. Nothing here is
used in production. POSIX only: it relies on process groups and file locks.
"""
