"""One module per Kafka API: rights, then the room that knows, then the answer."""
