"""The single writer of the cluster's metadata: it validates, writes records to the metadata log, and applies them."""
