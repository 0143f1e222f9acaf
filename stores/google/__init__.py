"""Google Play's developer notifications: verified, completed by asking Google, translated into our own words."""
