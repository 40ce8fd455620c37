"""What frozen stages make of each picture, computed once."""
