"""What lies on disk: recorders, the log store, due work and the vault; may import domain and merkle."""
