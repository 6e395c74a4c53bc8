"""One engine for many clients: its process and its endpoint, how it is found, started and called, and `serve`."""
