"""Coverage, taught to a pretrained model."""
