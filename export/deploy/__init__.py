"""What runs an export elsewhere: files for DeepStream and Triton, a script."""
