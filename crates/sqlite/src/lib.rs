//! Both halves of one idea: capture a commit of SQLite, apply it elsewhere.

pub mod apply;
pub mod changeset;
pub mod compare;
pub mod connection;
pub mod file;
pub mod schema;
pub mod snapshot;
pub mod state;
pub mod statement;
pub mod value;

pub use rusqlite;
