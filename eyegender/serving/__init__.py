"""The trained network as others use it: pictures of any size in, probabilities out, preprocessing inside."""
