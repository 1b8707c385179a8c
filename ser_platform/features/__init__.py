"""Frame features: families, the store that computes each once, views over it, augmentation."""
