"""Generated documentation: man pages, and the reference of the site. Nothing here is installed."""
