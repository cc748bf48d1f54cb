//! Whole-system tests and their harness.
