"""What modules may import: safe writes, accounts, commands, modes, patterns."""
