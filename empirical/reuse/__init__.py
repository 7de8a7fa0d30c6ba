"""Ways to reuse adapters: merges and routers."""
