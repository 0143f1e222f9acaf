"""Importing an existing trade table: read the file, map its columns, send its lines through the API."""
