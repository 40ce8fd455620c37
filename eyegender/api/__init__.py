"""What `import eyegender` offers; the modules import torch, MLflow and Optuna only when their functions are called."""
