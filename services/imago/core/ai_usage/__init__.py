"""Calls to paid AI providers: budgets, the ledger and the circuit breaker."""
