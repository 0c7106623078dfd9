"""Calls to paid AI providers: budgets, the ledger of calls, and the circuit breaker."""
