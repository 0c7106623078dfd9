"""Pages of the public web: parse and check URLs, fetch safely, and extract the text."""
