#![doc = include_str!("../README.md")]
//!
//! # Contents
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | one typed struct per process: defaults < TOML < environment < command line |
//! | [`process`] | what every process begins and ends with |
//! | [`program`] | a role as a program of its own, from its arguments to its exit code |
//! | [`telemetry`] | logs on standard error, metrics for Prometheus, traces for a collector |
//! | [`shutdown`] | when a process is asked to end, and by what |
//! | [`http`] | the frame around every role's routes: probes, metrics, bounds, problems |
//! | [`admission`] | how much memory everything of one kind may take |
//! | [`authority`] | whom another service is believed to be certified by |
//! | [`secret`] | bearer tokens and key files |
//! | [`credentials`] | who may write |
//! | [`reloaded`] | files that are read again when they change |
//! | [`calendar`] | log time as people write it |
//! | [`trouble`] | when to speak of a trouble that goes on |
//!
//! `axum` is re-exported: it is a direct dependency of this crate alone.

pub mod admission;
pub mod authority;
pub mod calendar;
pub mod config;
pub mod credentials;
pub mod http;
pub mod process;
pub mod program;
pub mod reloaded;
pub mod secret;
pub mod shutdown;
pub mod telemetry;
pub mod trouble;

pub use axum;
