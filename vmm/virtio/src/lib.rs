//! Virtio devices over guest memory: registers, chains, console, entropy, fs, vsock; pure.
