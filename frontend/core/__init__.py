"""What all frontends share: checkpoints, architectures, and graphs built layer by layer."""
