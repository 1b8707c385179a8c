"""Changes to training clips: transforms of samples, recipes of transforms, and the copies of a training set."""
