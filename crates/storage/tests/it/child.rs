//! Real processes: this test binary, started again with a role.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use synddb_storage::{ObjectBatchStore, StoreUrl};

use super::{open, processes, proxied, remote};

/// Names the role of a child. Without it, this binary is the parent.
const ROLE: &str = "SYNDDB_STORAGE_TEST_ROLE";

/// The folder of the store that a child opens, or its address.
const STORE: &str = "SYNDDB_STORAGE_TEST_STORE";

/// A text that tells children of one role apart.
const NAME: &str = "SYNDDB_STORAGE_TEST_NAME";

/// What a child can be told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Races others for the same keys, after a line on its standard input.
    Race,
    /// Raises a number in a lease against others, after a line on its standard input.
    Count,
    /// Creates one object after another until it is killed.
    Write,
    /// Meets a disk that is full.
    Full,
    /// Meets folders and files that it may not use.
    Denied,
    /// Meets a platform with a clock that is wrong.
    Skewed,
    /// Has no credentials, and a proxy.
    Proxied,
}

impl Role {
    const ALL: [Self; 7] =
        [Self::Race, Self::Count, Self::Write, Self::Full, Self::Denied, Self::Skewed, Self::Proxied];
}

/// The command that starts `binary`, a copy of this test binary, in a role.
pub(crate) fn command(binary: &Path, role: Role, store: &Path, name: &str) -> Command {
    let mut command = Command::new(binary);
    command.args(arguments()).envs(environment(role, store, name));
    command
}

pub(crate) const fn arguments() -> [&'static str; 4] {
    ["child::plays_its_role", "--exact", "--nocapture", "--test-threads=1"]
}

pub(crate) fn environment(role: Role, store: &Path, name: &str) -> [(&'static str, String); 3] {
    [(ROLE, format!("{role:?}")), (STORE, store.to_str().unwrap().to_owned()), (NAME, name.to_owned())]
}

/// Starts a child whose standard input and output the parent holds.
pub(crate) fn spawn(role: Role, store: &Path, name: &str) -> Child {
    let binary = std::env::current_exe().unwrap();
    command(&binary, role, store, name).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// The same for a child whose store is at an address, with these variables for it.
pub(crate) fn start_at(role: Role, url: &StoreUrl, variables: &[(String, String)], name: &str) -> Child {
    let binary = std::env::current_exe().unwrap();
    let mut command = command(&binary, role, Path::new(&url.to_string()), name);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// Opens the store that a child is told of.
async fn told(store: &str) -> ObjectBatchStore {
    match store.contains("://") {
        true => ObjectBatchStore::open(&store.parse().unwrap()).await.unwrap(),
        false => open(Path::new(store)).await,
    }
}

/// Waits for a child, and makes sure that it did what it was started for.
pub(crate) fn finish(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("role played"), "the child did nothing: {told}");
    told
}

/// What a child does; in the parent, nothing.
#[test]
fn plays_its_role() {
    let Ok(name) = std::env::var(ROLE) else { return };
    let role = Role::ALL.into_iter().find(|role| format!("{role:?}") == name).unwrap();
    let store = std::env::var(STORE).unwrap();
    let name = std::env::var(NAME).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = Path::new(&store);
        match role {
            Role::Race => processes::race(told(&store).await, &name).await,
            Role::Count => processes::count(told(&store).await).await,
            Role::Proxied => proxied::meet_proxy(&store).await,
            Role::Skewed => remote::meet_wrong_clock(&store).await,
            Role::Write => processes::write_until_killed(folder).await,
            Role::Full => processes::meet_full_disk(folder).await,
            Role::Denied => processes::meet_denied_access(folder).await,
        }
    });
    println!("\nrole played");
}
