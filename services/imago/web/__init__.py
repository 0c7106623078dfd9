"""The public web: which URLs and addresses may be fetched, the fetch itself, and reading a page."""
