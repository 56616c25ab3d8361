//! Refuses to build against an SQLite that lacks what this crate calls.
//!
//! The options of the bundled SQLite come from the environment, and the `.cargo/config.toml` that sets them here does not
//! reach a workspace that depends on this crate.

/// What this crate calls: snapshots, sessions and what sessions are made of, pages of a database as rows.
const NEEDED: [&str; 4] = [
    "SQLITE_ENABLE_SNAPSHOT",
    "SQLITE_ENABLE_SESSION",
    "SQLITE_ENABLE_PREUPDATE_HOOK",
    "SQLITE_ENABLE_DBPAGE_VTAB",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBSQLITE3_FLAGS");
    let flags = std::env::var("LIBSQLITE3_FLAGS").unwrap_or_default();
    let set = |option: &str| flags.split_whitespace().any(|flag| flag.trim_start_matches("-D") == option);
    if NEEDED.iter().all(|option| set(option)) {
        return;
    }
    let line = NEEDED.map(|option| format!("-D{option}")).join(" ");
    println!("cargo:warning=SQLite is built without options that synddb-sqlite needs");
    println!("cargo:warning=add to .cargo/config.toml: [env] LIBSQLITE3_FLAGS = \"{line}\"");
    std::process::exit(1);
}
