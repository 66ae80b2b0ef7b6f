"""Stages by TensorRT: lowered and checked here, built and proven on the device."""
