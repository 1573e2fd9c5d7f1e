"""From a request to a stored result: plan, run, records, store, history."""
