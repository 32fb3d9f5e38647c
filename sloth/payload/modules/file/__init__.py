"""Files: their content, their lines, their attributes."""
