"""SQL: the engine, the common metadata and the tables of the projections."""
