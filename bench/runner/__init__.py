"""The bench runner: builds the workloads, runs them under each allocator, prints the tables."""
