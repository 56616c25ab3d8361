#![doc = include_str!("../README.md")]
//!
//! # Contents
//!
//! | module | holds |
//! |---|---|
//! | [`outbox`] | what was captured and not yet seen in the store, durably |

pub mod outbox;
