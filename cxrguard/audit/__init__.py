"""The audit: statistics of memorization, its record, report and release gate. No torch, no Lightning."""
