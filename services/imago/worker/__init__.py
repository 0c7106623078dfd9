"""The stage runner and the stages it runs."""
