"""The lowest room: error types and plain data that every other room shares. Imports nothing of the project."""
