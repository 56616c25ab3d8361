#![doc = include_str!("../README.md")]

pub mod apply;
pub mod as_sql;
pub mod beside;
pub mod capture;
pub mod changeset;
pub mod compare;
pub mod connection;
pub mod contents;
pub mod file;
pub mod inspect;
pub mod killable;
pub mod lock;
pub mod messages;
pub mod name;
pub mod query;
pub mod reconcile;
pub mod rules;
pub mod schema;
pub mod session;
pub mod snapshot;
pub mod state;
pub mod statement;
pub mod value;

pub use rusqlite;
