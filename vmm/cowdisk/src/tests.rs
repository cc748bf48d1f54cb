//! Disks over files that are in memory, fail and lose power; and over real ones.

mod files;
mod loss;
mod map;
mod model;
mod sim;
