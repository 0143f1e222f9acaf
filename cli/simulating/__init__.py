"""What is tried with the simulated stores around a whole service: losses, and the demo's shop."""
