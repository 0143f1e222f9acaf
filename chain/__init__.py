"""Everything that touches an EVM chain or holds a key; may import domain and merkle."""
