"""Anti-corruption layers: what each app store sends, verified and translated into `domain.store_notification`.

May import `domain` and `merkle`. No word of a store's own vocabulary leaves this folder.
"""
