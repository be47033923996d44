"""What a classifier should not be sure of: wrong labels, texts out of scope, documents longer than it reads."""
