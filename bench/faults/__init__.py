"""What a client sees of a database that breaks: writes with unique keys, one fault, and what became of every write."""
