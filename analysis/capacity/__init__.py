"""How much a target carries: searched for by trials, or modelled from runs."""
