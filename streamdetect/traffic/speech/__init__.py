"""What is said: by honest people and programs, and by campaigns."""
