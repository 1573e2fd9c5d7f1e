"""From a request to a stored result: plan, run, records, store, history."""

from whisperq_core.callable_package import make_callable

make_callable(__name__)
