//! Tests of the protocol from outside, as other crates and other languages meet it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod arbitrary;
mod batch;
mod corpus;
mod decoders;
mod equivocation;
mod fencing;
mod http;
mod linked;
mod log;
mod manifest;
mod mutation;
mod outbound;
mod quorum;
mod revoked;
mod round_trip;
mod sample;
mod tree;
mod vectors;
