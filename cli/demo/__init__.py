"""`daicho demo`: the main job on real input, through the public API, on one screen."""
