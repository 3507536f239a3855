"""The background roles, a file each: settings → loop → `run_once() -> counts`. Tests call `run_once`."""
