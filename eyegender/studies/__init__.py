"""What eyegender adds to a sweep: its MLflow run, its report, and the evaluation of its winner."""
