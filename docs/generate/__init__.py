"""What is not written by hand: man pages, and the reference of the site. Nothing here is installed."""
