"""The launcher `kubernetes`: a sweep's workers as one Job of a Kubernetes cluster."""
