"""Shared by all rooms: the exception, files in and out, sizes of memory, threads. Imports no AiiDA and no room."""
