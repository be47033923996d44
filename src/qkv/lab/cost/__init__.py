"""What it costs, and how it is made cheaper."""
