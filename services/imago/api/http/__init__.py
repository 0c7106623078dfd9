"""What all routes share: errors, JSON, pages of lists, parts of request schemas, and the services behind them."""
