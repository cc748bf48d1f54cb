//! The file space: layers, whiteouts, copy-up.
