"""Models, tested against each other and against other libraries."""
