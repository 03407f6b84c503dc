"""What a comparison looks like: the report as one HTML file, and the terminal. Arranges, never computes."""
