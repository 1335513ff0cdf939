"""Side by side with Apache Kafka: both brokers from scratch, the same clients, one run, ratios."""
