"""App Store Server Notifications V2: verified, and translated into our own words."""
