"""What is written to and read from MLflow. Training never waits for the tracking store."""
