"""Programs that work on the repository; the package never imports them."""
