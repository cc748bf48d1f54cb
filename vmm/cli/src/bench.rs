//! Measuring: round trips, throughput, scale, files; each compares ways of one run.
//!
//! A bench enters a lab of its own and measures there in interleaved rounds of
//! fair order. What counts is the ratio within a round, not the absolute figure.

pub mod dataplane;
pub mod files;
mod flow;
mod fresh;
mod orders;
mod output;
pub mod rtt;
pub mod scale;
mod strongswan;
pub mod throughput;
mod ways;

pub(crate) use output::Output;
pub(crate) use ways::{expect, start_bare};

use switch::overlay::{Aead, Cipher, Integrity, Suite};

/// What is measured where nobody chooses: an algorithm of each kind.
pub const SUITES: [Suite; 3] = [
    Suite::Combined(Cipher::Null, Integrity::HmacSha256),
    Suite::Combined(Cipher::AesCbc128, Integrity::HmacSha256),
    Suite::Aead(Aead::AesGcm256),
];
