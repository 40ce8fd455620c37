"""What a sweep means to us: its run in MLflow, its report, and the one test of its winner. The sweeper knows none of it."""
