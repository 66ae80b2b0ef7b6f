"""TFLite: convolutional stages as full-integer models, for an Edge TPU and the processor beside it."""
