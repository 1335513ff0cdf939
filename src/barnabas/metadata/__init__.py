"""What every broker knows of the cluster: an immutable image, and the records that change it."""
