"""Task → provider → tables: what runs when a subject is due."""
