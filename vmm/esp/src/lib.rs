//! IPsec data plane: ESP, SAD, SPD, replay window, NAT traversal; pure.
